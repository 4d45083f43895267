/**
 * A constant that is made when it is first looked at: the bundle (scripts/agents/bundle.ts) makes the schemas of protocol and core
 * so. Each takes some 15 kB in the native host's engine, and most are of engines that are not there.
 */
export function lazily<Value extends object>(make: () => Value): Value {
  let made: Value | null = null;
  const value = (): Value => {
    made ??= make();
    return made;
  };
  return new Proxy({} as Value, {
    get: (_target, name) => Reflect.get(value(), name),
    set: (_target, name, to) => Reflect.set(value(), name, to),
    has: (_target, name) => Reflect.has(value(), name),
    getPrototypeOf: () => Reflect.getPrototypeOf(value()),
  });
}
