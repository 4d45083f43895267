/** Where the running agent of a state directory answers: for programs of its owner only. */
import type { Host, LocalLimits } from "../host.ts";
import { PRIVATE_DIRECTORY_MODE } from "../identity.ts";

/** A unix socket's path has room for 108 bytes on Linux and 104 on macOS, with the zero behind it. */
const SOCKET_PATH_BYTES_MAX = 103;

export const CONTROL_LIMITS: LocalLimits & { answerBytes: number; askMs: number; lineBytes: number } = {
  bodyBytes: 64 * 1024,
  connections: 32,
  requestMs: 5_000,
  /** What a command reads of an answer. */
  answerBytes: 4 * 1024 * 1024,
  askMs: 10_000,
  lineBytes: 64 * 1024,
};

type EndpointHost = Pick<Host, "directories" | "files" | "platform">;

/** The socket's path or the pipe's name. Does not look whether anybody answers there. */
export function controlEndpoint(host: EndpointHost): string {
  const { directories, files, platform } = host;
  if (platform === "win32") return `\\\\.\\pipe\\gfe-agent-${shortHash(directories.state.toLowerCase())}`;
  const path = files.join(directories.state, "agent.sock");
  if (new TextEncoder().encode(path).byteLength <= SOCKET_PATH_BYTES_MAX) return path;
  return files.join(`/tmp/gfe-${shortHash(directories.state)}`, "agent.sock");
}

/**
 * Makes the directory of the socket, which nobody else may enter. One that was there stays as it is: it may be anything that
 * `--config-dir` names, and the socket itself lets nobody else in. Throws where somebody else made the one in /tmp first.
 */
export async function prepareEndpoint(host: EndpointHost): Promise<string> {
  const endpoint = controlEndpoint(host);
  if (host.platform === "win32") return endpoint;
  const directory = endpoint.slice(0, endpoint.lastIndexOf("/"));
  await host.files.makeDirectory(directory, PRIVATE_DIRECTORY_MODE);
  const mode = (await host.files.facts(directory))?.mode ?? null;
  if (directory !== host.directories.state && mode !== null && (mode & 0o077) !== 0)
    throw new Error(
      `${directory} is open to other users: remove it, or give the agent a shorter --config-dir`,
    );
  return endpoint;
}

/** FNV-1a in two halves: tells directories apart, and keeps nothing secret. */
function shortHash(text: string): string {
  const half = (seed: number) => {
    let hash = seed;
    for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193);
    return (hash >>> 0).toString(16).padStart(8, "0");
  };
  return half(0x811c9dc5) + half(0x050c5d1f);
}
