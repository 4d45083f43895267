/** The agent's core as one script for the native host's engine. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import type { BuildFacts } from "@gfe/agent";
import { transform } from "@swc/core";
import { type Plugin, rolldown } from "rolldown";

/** Where the Go program embeds its script from. */
const SCRIPT_DIRECTORY = new URL("../../slim/dist/", import.meta.url).pathname;

/** What scripts of the web expect to be there: the Go program runs it first. */
const GLOBALS = new URL("../../packages/agent/src/slim/install.ts", import.meta.url).pathname;

/**
 * Bundles an entry and writes it for the Go program to embed: what it begins with, and a part for each `import()`, which is compiled
 * when it is asked for. Resolves with the length of what it begins with, before compression.
 */
export async function bundleScript(
  entry: string,
  name: string,
  facts: BuildFacts | null = null,
): Promise<number> {
  const build = await rolldown({
    input: { globals: GLOBALS, main: entry },
    platform: "neutral",
    resolve: { mainFields: ["module", "main"], conditionNames: ["import", "default"] },
    logLevel: "warn",
    plugins: [withPureConstants, withoutJsonSchema],
    ...(facts ? { transform: { define: { __GFE_BUILD__: JSON.stringify(facts) } } } : {}),
  });
  const { output } = await build.generate({
    ...{ format: "cjs", exports: "named", entryFileNames: "[name].js", chunkFileNames: "[name].js" },
  });
  await build.close();
  const parts = await Promise.all(
    output.map(async (part) => {
      if (part.type !== "chunk") throw new Error(`${entry} has a part that is no script: ${part.fileName}`);
      return { name: part.fileName, script: await lower(part.code) };
    }),
  );
  mkdirSync(SCRIPT_DIRECTORY, { recursive: true });
  writeFileSync(join(SCRIPT_DIRECTORY, `${name}.parts`), packed(parts));
  return Buffer.byteLength(parts.find((part) => part.name === "main.js")!.script);
}

/** A line "name length" for each part, an empty line, and the parts one behind the other, each compressed by itself. */
function packed(parts: readonly { name: string; script: string }[]): Buffer {
  const compressed = parts.map(({ name, script }) => ({ name, bytes: gzipSync(script, { level: 9 }) }));
  const head = compressed.map(({ name, bytes }) => `${name} ${bytes.byteLength}\n`).join("");
  return Buffer.concat([Buffer.from(`${head}\n`), ...compressed.map(({ bytes }) => bytes)]);
}

/** Schemas become no JSON Schema in an agent; the code for it comes along with every kind of schema. */
const withoutJsonSchema: Plugin = {
  name: "without-json-schema",
  transform(code, id) {
    if (!/zod\/v4\/core\/(to-json-schema|json-schema-processors)\.js$/.test(id)) return null;
    const names = [...code.matchAll(/^export (?:const|function) (\w+)/gm)].map(([, name]) => name);
    return { code: names.map((name) => `export const ${name} = () => {};`).join("\n") };
  },
};

/** Protocol and core make their schemas as they load; a schema that nobody asks for costs memory all the same. */
const PURE = /packages\/(protocol|agent)\/src\/.+\.ts$/;

const LAZY = new URL("../../packages/agent/src/slim/lazy.ts", import.meta.url).pathname;

/** Calls that make a module's constants have no other effect: where nobody uses the constant, the call goes, too. */
const withPureConstants: Plugin = {
  name: "pure-constants",
  transform(code, id) {
    if (!PURE.test(id) || id === LAZY) return null;
    const calls = this.parse(code, { lang: "ts" }).body.flatMap((statement) => {
      const declared = statement.type === "ExportNamedDeclaration" ? statement.declaration : statement;
      if (declared?.type !== "VariableDeclaration" || declared.kind !== "const") return [];
      return declared.declarations.flatMap(({ init }) => (init?.type === "CallExpression" ? [init] : []));
    });
    let pure = code;
    for (const { start, end } of calls.reverse()) {
      const call = pure.slice(start, end);
      const made = /^(z|\w+Schema)\./.test(call) ? `lazily(() => ${call})` : `(() => ${call})()`;
      pure = `${pure.slice(0, start)}/*#__PURE__*/ ${made}${pure.slice(end)}`;
    }
    pure = pure.replace(/^.*\\p\{.*$/gm, withoutProperties);
    return { code: `${pure}\nimport { lazily } from ${JSON.stringify(LAZY)};\n` };
  },
};

/** A line whose regular expressions say \\p{…}, which the engine takes for a mere p, with the characters that are meant. */
const withoutProperties = (line: string): string =>
  line.replace(/\\p\{(\w+)\}/g, (_all, name: string, at: number) => {
    const inClass = line.lastIndexOf("[", at) > line.lastIndexOf("]", at);
    return inClass ? rangesOf(name) : `[${rangesOf(name)}]`;
  });

/** The characters of a Unicode property as the inside of a class. */
function rangesOf(property: string): string {
  const pattern = new RegExp(`\\p{${property}}`, "u");
  const has = (code: number): boolean =>
    code <= 0x10ffff && (code < 0xd800 || code > 0xdfff) && pattern.test(String.fromCodePoint(code));
  const escaped = (code: number) => `\\u{${code.toString(16)}}`;
  let ranges = "";
  for (let first = 0; first <= 0x10ffff; first++) {
    if (!has(first)) continue;
    let last = first;
    while (has(last + 1)) last++;
    ranges += last === first ? escaped(first) : `${escaped(first)}-${escaped(last)}`;
    first = last;
  }
  return ranges;
}

/** What the engine does not know is said in what it knows, and all is made short. */
async function lower(code: string): Promise<string> {
  const { code: lowered } = await transform(code, {
    isModule: true,
    swcrc: false,
    configFile: false,
    env: {
      targets: { chrome: "100" },
      include: ["transform-async-generator-functions"],
    },
    minify: true,
    jsc: {
      minify: { compress: { passes: 2 }, mangle: true, module: true },
      parser: { syntax: "ecmascript" },
    },
  });
  return `(function(exports,require){${lowered}})`;
}
