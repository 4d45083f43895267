/** What the provider said of an engine that the agent is to start, made into what is started and what it may read. */
import type { EngineKind } from "@gfe/protocol";
import type { Host } from "../host.ts";

export interface EngineCommand {
  words: readonly string[];
  env: Readonly<Record<string, string>>;
  /** Files and folders, where they are. */
  reads: readonly string[];
  /** What it is by its name; what it answers may tell more. */
  kind: EngineKind;
}

const PORT = "{port}";

/** Words as a shell would cut them, with its quotes and backslashes and nothing else of it. Null for an open quote. */
export function commandWords(text: string): string[] | null {
  const words: string[] = [];
  let rest = text.trim();
  while (rest !== "") {
    const match = /^(?:[^\s'"\\]|\\[\s\S]|'[^']*'|"(?:[^"\\]|\\[\s\S])*")+/.exec(rest);
    if (!match) return null;
    words.push(
      match[0].replace(
        /\\([\s\S])|'([^']*)'|"((?:[^"\\]|\\[\s\S])*)"/g,
        (_, escaped, single, double) => escaped ?? single ?? String(double).replace(/\\([\s\S])/g, "$1"),
      ),
    );
    rest = rest.slice(match[0].length).trimStart();
  }
  return words;
}

/** Throws an Error that says what to write where nothing says on which port the engine listens. */
export async function engineCommand(
  host: Pick<Host, "files" | "env" | "directories">,
  words: readonly string[],
  port: number,
  inImage: boolean,
): Promise<EngineCommand> {
  const program = words[0]?.replace(/^.*[\\/]/, "").replace(/\.exe$/i, "") ?? "";
  const env: Record<string, string> = {};
  const reads: string[] = [];
  let all = [...words];
  let kind: EngineKind = "openai-compatible";
  if (program === "ollama") {
    kind = "ollama";
    const models = host.env.OLLAMA_MODELS ?? host.files.join(host.env.HOME ?? "", ".ollama", "models");
    // It would else tidy up among models that it may only read.
    Object.assign(env, { OLLAMA_HOST: `127.0.0.1:${port}`, OLLAMA_MODELS: models, OLLAMA_NOPRUNE: "1" });
    reads.push(models);
  } else if (program.startsWith("llama-server")) {
    kind = "llama.cpp";
    all = [...without(all, ["--host", "--port"]), "--host", "127.0.0.1", "--port", String(port)];
  } else if (!all.some((word) => word.includes(PORT)))
    throw new Error(
      `say where ${program || "the engine"} listens: write ${PORT} where its port belongs, as in --port ${PORT}`,
    );
  all = all.map((word) => word.replaceAll(PORT, String(port)));
  const named = all.slice(inImage ? 1 : 0).flatMap((word) => /(?:^|=)(\/.+)$/.exec(word)?.[1] ?? []);
  const folder = /^(\/.*)\/[^/]+$/.exec(all[0] ?? "")?.[1];
  // Beside a program lie its libraries.
  if (!inImage && folder !== undefined && !/^\/(usr\/)?(local\/)?s?bin$/.test(folder)) reads.push(folder);
  const open: string[] = [];
  for (const path of new Set([...reads, ...named.flatMap(partsOfModel)]))
    if (mayRead(host, path) && (await host.files.facts(path).catch(() => null))) open.push(path);
  return { words: all, env, reads: open, kind };
}

const without = (words: readonly string[], flags: readonly string[]): string[] =>
  words.filter((word, index) => {
    const [flag] = word.split("=");
    return !(flags.includes(flag!) || (flags.includes(words[index - 1] ?? "") && !word.startsWith("--")));
  });

/** Not a home, nor what it lies in, nor what is the agent's own: they hold more than an engine needs. */
function mayRead({ env, directories }: Pick<Host, "env" | "directories">, path: string): boolean {
  const clean = path.replace(/\/+$/, "");
  const kept = [env.HOME, directories.config, directories.state].filter(
    (one) => one !== undefined && one !== "",
  );
  return (
    clean !== "" &&
    !/(^|\/)\.\.(\/|$)/.test(clean) &&
    !kept.some((one) => one === clean || one!.startsWith(`${clean}/`))
  );
}

const PARTS_MAX = 100;

/** All files of a model that llama.cpp's tools split: `…-00001-of-00003.gguf`. */
export function partsOfModel(path: string): string[] {
  const match = /^(.*-)00001(-of-(\d{5})\.gguf)$/.exec(path);
  const count = Number(match?.[3] ?? 1);
  if (!match || count > PARTS_MAX) return [path];
  return Array.from(
    { length: count },
    (_, index) => `${match[1]}${String(index + 1).padStart(5, "0")}${match[2]}`,
  );
}
