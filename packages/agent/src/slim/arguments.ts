export interface UpArguments {
  hub?: string;
  token?: string;
  name?: string;
  configDir?: string;
  engine: string[];
  detect: boolean;
}

export function parseArguments(args: readonly string[]): UpArguments {
  const options: UpArguments = { engine: [], detect: true };
  const rest = [...args];
  for (let flag = rest.shift(); flag !== undefined; flag = rest.shift()) {
    if (flag === "--json") continue;
    if (flag === "--no-detect") {
      options.detect = false;
      continue;
    }
    const value = rest.shift();
    if (value === undefined) throw new Error(`${flag} needs a value`);
    if (flag === "--hub") options.hub = value;
    else if (flag === "--token") options.token = value;
    else if (flag === "--name") options.name = value;
    else if (flag === "--config-dir") options.configDir = value;
    else if (flag === "--engine") options.engine.push(value);
    else throw new Error(`unknown option ${flag}`);
  }
  return options;
}
