/** Which engines run on this machine: at the addresses that were told, and at the ports that engines are known to take. */
import type { Capability } from "@gfe/protocol";
import type { Host } from "../host.ts";
import { DETECT_LIMITS } from "../limits.ts";
import { createDigests } from "./digests.ts";
import type { Engine } from "./engine.ts";
import { type Detected, identifyEngine } from "./identify.ts";
import { createOllamaEngine, OLLAMA_PORT } from "./ollama.ts";
import { createOpenAiEngine } from "./openai-compatible.ts";

/** Ollama; llama.cpp and LocalAI; vLLM; LM Studio; Jan; KoboldCpp; TabbyAPI. */
export const DEFAULT_PORTS = [OLLAMA_PORT, 8080, 8000, 1234, 1337, 5001, 5000] as const;

export interface DetectOptions {
  /** Addresses of engines; they are looked at before the default ports. */
  urls?: readonly string[];
  /** Ports of this machine to look at; [] looks at `urls` only. */
  ports?: readonly number[];
  /** Tells only of what is certain, for an engine that is known at its address is not given up on a doubt. */
  onlySure?: boolean;
  apiKey?: string;
  /** Attempts at once with one model, for every engine found. */
  slots?: number;
  capabilities?: Capability[];
  contextLengthMax?: number;
}

type DetectHost = Pick<Host, "http" | "after" | "env" | "files" | "directories">;
/** Looks at every address at once; the engines come in the order of the addresses. */
export async function detectEngines(host: DetectHost, options: DetectOptions = {}): Promise<Engine[]> {
  const addresses = addressesOf(host, options);
  const identities = await Promise.all(addresses.map((url) => identifyEngine(host, url, options.apiKey)));
  return addresses.flatMap((url, index) => {
    const { kind, isSure } = identities[index]!;
    const engine = isSure || !options.onlySure ? engineOf(host, url, kind, options) : null;
    return engine ? [engine] : [];
  });
}

function engineOf(host: DetectHost, baseUrl: string, kind: Detected, options: DetectOptions): Engine | null {
  const { apiKey, slots, capabilities, contextLengthMax } = options;
  if (kind === "hub" || kind === "nothing") return null;
  if (kind === "ollama") {
    const parallel = slots ?? (Number(host.env.OLLAMA_NUM_PARALLEL) || undefined);
    const context = contextLengthMax ?? (Number(host.env.OLLAMA_CONTEXT_LENGTH) || undefined);
    return createOllamaEngine({
      host,
      baseUrl,
      ...(parallel === undefined ? {} : { slots: parallel }),
      ...(context === undefined ? {} : { contextLengthMax: context }),
    });
  }
  return createOpenAiEngine({
    host,
    kind,
    address: { baseUrl, ...(apiKey === undefined ? {} : { apiKey }) },
    ...(slots === undefined ? {} : { slots }),
    ...(capabilities === undefined ? {} : { capabilities }),
    ...(isHere(baseUrl) ? { digestOf: createDigests(host) } : {}),
  });
}

const isHere = (url: string): boolean => /^https?:\/\/(127\.|localhost\b|\[::1\])/.test(url);

function addressesOf({ env }: DetectHost, { urls = [], ports = DEFAULT_PORTS }: DetectOptions): string[] {
  const told = [...urls];
  if (env.OLLAMA_HOST && ports.length > 0) told.push(ollamaAddress(env.OLLAMA_HOST));
  const found = told.map(normalise).filter((url) => url !== null);
  for (const port of ports) found.push(`http://127.0.0.1:${port}`);
  // `localhost` is the same engine once more.
  const seen = new Set<string>();
  return found
    .filter((url) => {
      const key = url.replace("//localhost", "//127.0.0.1");
      return seen.has(key) ? false : seen.add(key);
    })
    .slice(0, DETECT_LIMITS.addresses);
}

/** OLLAMA_HOST as Ollama reads it: scheme and port may be missing; 0.0.0.0 is where it listens, not where to call. */
function ollamaAddress(value: string): string {
  const withScheme = /^https?:\/\//.test(value)
    ? value
    : `http://${value.startsWith(":") ? "127.0.0.1" : ""}${value}`;
  const hasPort = /:\d+\/?$/.test(withScheme);
  const defaultPort = /^https?:\/\//.test(value) ? "" : `:${OLLAMA_PORT}`;
  return `${withScheme.replace(/\/$/, "")}${hasPort ? "" : defaultPort}`.replace("//0.0.0.0", "//127.0.0.1");
}

/** `…/v1/` is how many write it. Null where it is no http address. */
function normalise(text: string): string | null {
  const url = URL.parse(/^https?:\/\//.test(text) ? text : `http://${text}`);
  if (!url || url.username || url.password) return null;
  return `${url.origin}${url.pathname.replace(/\/+$/, "").replace(/\/v1$/, "")}`;
}
