/**
 * A constant that is made when it is looked at, and made again when it was forgotten: the bundle (scripts/agents/bundle.ts) makes the
 * schemas of protocol and core so. Each takes some 10 kB in the native host's engine, and most are of the start, or of engines
 * that are not there.
 */
interface Lazy {
  forget(): void;
  used: boolean;
}

const made = new Set<Lazy>();

export function lazily<Value extends object>(make: () => Value): Value {
  let known: Value | null = null;
  const self: Lazy = {
    used: false,
    forget() {
      known = null;
      made.delete(self);
    },
  };
  const value = (): Value => {
    self.used = true;
    if (known === null) made.add(self);
    known ??= make();
    return known;
  };
  return new Proxy({} as Value, {
    get: (_target, name) => Reflect.get(value(), name),
    set: (_target, name, to) => Reflect.set(value(), name, to),
    has: (_target, name) => Reflect.has(value(), name),
    getPrototypeOf: () => Reflect.getPrototypeOf(value()),
  });
}

/** Lets go of what nobody has looked at since the last time. */
export function forgetUnused(): void {
  for (const one of [...made]) {
    if (!one.used) one.forget();
    one.used = false;
  }
}
