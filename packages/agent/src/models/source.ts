/** Where a model file comes from, as a person writes it. */
import { ModelProblem } from "./problem.ts";

export type ModelSource =
  /** A repository of the model host: one of its files is chosen by quantisation or by name. */
  | { type: "repo"; repo: string; revision: string; quantisation?: string; file?: string }
  | { type: "url"; url: string };

/** The model host, unless the environment names another that answers alike: a mirror, a registry in the house. */
export const MODEL_HOST = "https://huggingface.co";
const ALSO_CALLED = ["https://hf.co", "https://www.huggingface.co"];

const REPO = /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/;
const HOW =
  "write OWNER/REPOSITORY, OWNER/REPOSITORY:QUANTISATION (such as :Q4_K_M), or the address of a .gguf file";

/** No slash at its end. Throws ModelProblem where the environment names none that can be used. */
export function modelHost(env: Readonly<Record<string, string | undefined>>): string {
  const given = env.HF_ENDPOINT;
  if (!given) return MODEL_HOST;
  return safeAddress(given, "HF_ENDPOINT").href.replace(/\/+$/, "");
}

/** Throws ModelProblem. */
export function parseSource(text: string, host: string = MODEL_HOST): ModelSource {
  const trimmed = text.trim();
  const home = [host, MODEL_HOST, ...ALSO_CALLED].find(
    (one) => trimmed.startsWith(`${one}/`) || `https://${trimmed}`.startsWith(`${one}/`),
  );
  if (home) {
    const path = trimmed.slice(trimmed.indexOf("://") < 0 ? home.length - "https://".length : home.length);
    return ofHost(path.replace(/^\/+|\/+$/g, ""), text);
  }
  if (trimmed.startsWith("hf://")) return ofHost(trimmed.slice("hf://".length), text);
  if (/^[a-z]+:\/\//i.test(trimmed)) {
    const url = safeAddress(trimmed, `"${text}"`);
    if (url.pathname === "/") throw new ModelProblem(`"${text}" names no file: ${HOW}`);
    return { type: "url", url: url.href };
  }
  return ofHost(trimmed, text);
}

/** `owner/name`, `owner/name:Q4_K_M`, `owner/name:file.gguf`, `owner/name/resolve/main/file.gguf` */
function ofHost(path: string, text: string): ModelSource {
  const [plain = ""] = path.split(/[?#]/);
  const within = /^([^/]+\/[^/]+)\/(?:resolve|blob|tree)\/([^/]+)(?:\/(.+))?$/.exec(plain);
  const [repo = "", choice] = within ? [within[1]] : plain.split(":", 2);
  if (!REPO.test(repo)) throw new ModelProblem(`"${text}" is no model: ${HOW}`);
  const revision = within ? decodeURIComponent(within[2]!) : "main";
  const file = within?.[3] === undefined ? undefined : decodeURIComponent(within[3]);
  if (file !== undefined) return { type: "repo", repo, revision, file };
  if (!choice) return { type: "repo", repo, revision };
  return /\.gguf$/i.test(choice)
    ? { type: "repo", repo, revision, file: choice }
    : { type: "repo", repo, revision, quantisation: choice };
}

/** An address that what comes from it may be trusted: encrypted, or in this house. */
function safeAddress(text: string, what: string): URL {
  const url = URL.parse(text);
  if (!url || (url.protocol !== "https:" && url.protocol !== "http:"))
    throw new ModelProblem(`${what} is no http address: ${HOW}`);
  if (url.username || url.password)
    throw new ModelProblem(`${what} has a password in it, which would be kept with the model: leave it out`);
  if (url.protocol === "http:" && !isInHouse(url.hostname))
    throw new ModelProblem(
      `${what} is not encrypted: write https, or load from a machine of your own network`,
    );
  return url;
}

/** This machine, private networks, and names that no public server has. */
const isInHouse = (name: string): boolean =>
  /^(localhost|127\.|10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|169\.254\.|\[(::1\]|f[cd]|fe80))/i.test(
    name,
  ) || /^[^.[]+$|\.(local|lan|internal|home\.arpa)$/i.test(name);
