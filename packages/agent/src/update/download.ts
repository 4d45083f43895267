/** A release's manifest and files over HTTP: bounded, resumed, and kept only if they are what was signed. */
import {
  concatenated,
  MANIFEST_NAME,
  type MinisignKey,
  RELEASE_LIMITS,
  type ReleaseFile,
  type ReleaseVerdict,
  verifyRelease,
} from "@gfe/protocol";
import { type Host, type HttpResponse, limitedSignal } from "../host.ts";

export const UPDATES_FOLDER = "updates";
const DOWNLOAD_LIMITS = {
  requestMs: 20_000,
  /** A file, however slow: the next look goes on where this one ended. */
  fileMs: 30 * 60_000,
  /** Connections that one download may lose. */
  tries: 5,
  /** Room that must be free, as a multiple of the file: the download, the copy beside the program, the program before. */
  roomTimes: 3,
} as const;

type DownloadHost = Pick<Host, "http" | "after" | "files" | "directories" | "nowMs">;

/** Rejects in words where there is no manifest to be had. */
export async function fetchManifest(
  host: DownloadHost,
  base: string,
  key: MinisignKey,
): Promise<ReleaseVerdict> {
  const manifest = await fetchSmall(host, `${base}/${MANIFEST_NAME}`, RELEASE_LIMITS.manifestBytes);
  const signature = await fetchSmall(host, `${base}/${MANIFEST_NAME}.minisig`, RELEASE_LIMITS.signatureBytes);
  const text = new TextDecoder().decode(signature);
  return verifyRelease(key, manifest, text, Math.floor(host.nowMs() / 1000));
}

async function fetchSmall(
  host: DownloadHost,
  url: string,
  bytesMax: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const { signal, release } = limitedSignal(host, DOWNLOAD_LIMITS.requestMs);
  try {
    const response = await host.http({ url, signal });
    if (response.status !== 200) {
      response.cancel();
      throw new Error(`${url} answered ${response.status}`);
    }
    const parts: Uint8Array[] = [];
    let bytes = 0;
    for await (const part of response.body) {
      bytes += part.byteLength;
      if (bytes > bytesMax) {
        response.cancel();
        throw new Error(`${url} is longer than ${bytesMax} bytes`);
      }
      parts.push(part);
    }
    return concatenated(...parts);
  } finally {
    release();
  }
}

/** Resolves with the path of the whole, checked file. What came before a failure is kept for the next time. */
export async function downloadFile(host: DownloadHost, base: string, file: ReleaseFile): Promise<string> {
  const { files, directories } = host;
  if (file.bytes > RELEASE_LIMITS.fileBytes) throw new Error(`${file.name} is larger than any release`);
  const folder = files.join(directories.state, UPDATES_FOLDER);
  await files.makeDirectory(folder, 0o700);
  const [part, whole] = [`${file.sha256}.part`, file.sha256].map((name) => files.join(folder, name)) as [
    string,
    string,
  ];
  // What earlier updates left: only one is ever under way.
  for (const name of await files.list(folder))
    if (!name.startsWith(file.sha256)) await files.remove(files.join(folder, name));
  const isWhole = async (path: string) =>
    (await files.facts(path))?.sizeBytes === file.bytes && (await files.sha256(path)) === file.sha256;
  if (await isWhole(whole)) return whole;
  if ((await files.freeBytes(folder)) < file.bytes * DOWNLOAD_LIMITS.roomTimes)
    throw new Error("the disk has no room for an update");
  let lost: unknown;
  for (let tried = 0; tried < DOWNLOAD_LIMITS.tries; tried++) {
    try {
      await fetchInto(host, `${base}/files/${file.name}?sha256=${file.sha256}`, part, file.bytes);
      lost = undefined;
      break;
    } catch (error) {
      lost = error;
    }
  }
  if (lost) throw new Error(`${file.name} could not be downloaded: ${(lost as Error).message}`);
  if (!(await isWhole(part))) {
    await files.remove(part);
    throw new Error(`${file.name} is not what was released: its SHA-256 does not fit`);
  }
  await files.setMode(part, 0o700);
  await files.rename(part, whole);
  return whole;
}

async function fetchInto(host: DownloadHost, url: string, path: string, bytes: number): Promise<void> {
  const { files } = host;
  let at = (await files.facts(path))?.sizeBytes ?? 0;
  if (at === bytes) return;
  if (at > bytes) {
    await files.remove(path);
    at = 0;
  }
  const { signal, release } = limitedSignal(host, DOWNLOAD_LIMITS.fileMs);
  try {
    const response = await host.http({
      url,
      signal,
      ...(at > 0 ? { headers: { range: `bytes=${at}-` } } : {}),
    });
    if (response.status === 200 && at > 0) {
      await files.remove(path); // a server that knows no ranges
      at = 0;
    }
    if (response.status !== 200 && response.status !== 206) {
      response.cancel();
      throw new Error(`the server answered ${response.status}`);
    }
    await append(files, response, path, bytes - at);
  } finally {
    release();
  }
}

async function append(
  files: Host["files"],
  response: HttpResponse,
  path: string,
  expected: number,
): Promise<void> {
  const writer = await files.append(path, { mode: 0o600 });
  let left = expected;
  try {
    for await (const chunk of response.body) {
      left -= chunk.byteLength;
      if (left < 0) {
        response.cancel();
        throw new Error("more came than was released");
      }
      await writer.write(chunk);
    }
  } finally {
    await writer.close();
  }
  if (left > 0) throw new Error("the connection ended too early");
}
