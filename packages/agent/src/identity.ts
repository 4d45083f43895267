/** The node's key pair: made once, kept in a file that only its owner reads. */
import { createSigner, generateKeyPair, type KeyPair, type Signer, verifySignature } from "@gfe/protocol";
import { z } from "zod";
import { AgentError } from "./errors.ts";
import type { Files, Host } from "./host.ts";

export const PRIVATE_FILE_MODE = 0o600;
export const PRIVATE_DIRECTORY_MODE = 0o700;
export const KEY_FILE = "node-key.json";

const keyFileSchema = z.object({
  public_key: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
  private_key: z.string().min(1).max(256),
});

type IdentityHost = Pick<Host, "files" | "directories" | "log">;

/**
 * The signer of this node. Makes the key pair at the first call. A file that others could read is repaired with a
 * warning; one that is damaged is an error, never overwritten: a new key is a new node without the old one's name.
 */
export async function loadIdentity(host: IdentityHost): Promise<Signer> {
  const { files, directories, log } = host;
  const path = files.join(directories.config, KEY_FILE);
  let text = await readPrivate(files, path, log);
  if (text === null) {
    await files.makeDirectory(directories.config, PRIVATE_DIRECTORY_MODE);
    const pair = await generateKeyPair();
    const fresh = `${JSON.stringify({ public_key: pair.publicKey, private_key: pair.privateKey })}\n`;
    const made = await files.write(path, fresh, { mode: PRIVATE_FILE_MODE, exclusive: true });
    // Another agent may have made it in the same moment: then its key is the node's.
    text = made ? fresh : await readPrivate(files, path, log);
  }
  return openKey(path, text ?? "");
}

async function openKey(path: string, text: string): Promise<Signer> {
  try {
    const parsed = keyFileSchema.parse(JSON.parse(text));
    const pair: KeyPair = { publicKey: parsed.public_key, privateKey: parsed.private_key };
    const signer = await createSigner(pair);
    const probe = { purpose: "gfe-key-check" };
    if (!(await verifySignature(pair.publicKey, probe, await signer.sign(probe))))
      throw new Error("the two halves do not belong together");
    return signer;
  } catch (cause) {
    throw new AgentError(
      "identity_unreadable",
      `The node key in ${path} is damaged. Restore it from a backup, or move it away to start as a new node.`,
      { cause },
    );
  }
}

/** Reads a secret file and takes away what others were allowed to do with it. */
export async function readPrivate(files: Files, path: string, log: Host["log"]): Promise<string | null> {
  const facts = await files.facts(path);
  if (!facts) return null;
  if (facts.mode !== null && (facts.mode & 0o077) !== 0) {
    log.warn(
      { path, mode: facts.mode.toString(8) },
      "a secret file could be read by other users of this machine; its mode is now 600. If you do not trust them, make a new one",
    );
    await files.setMode(path, PRIVATE_FILE_MODE);
  }
  const bytes = await files.read(path);
  return bytes === null ? null : new TextDecoder().decode(bytes);
}
