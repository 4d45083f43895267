/** Who takes part in a simulation, and how far apart they are. */
import { createPrivateKey, createPublicKey } from "node:crypto";
import { type KeyPair, type PriceWire, toBase64Url } from "@gfe/protocol";
import type { Random } from "../random.ts";
import { Place } from "./network.ts";
import { MODELS, type NodeSpec } from "./stage.ts";

/** Nodes of every kind, each with a provider of its own. */
export function nodeSpecs(random: Random): NodeSpec[] {
  const honest = random.int(2, 6);
  const rogues = random.int(0, 3);
  return Array.from({ length: honest + rogues }, (_, i) => {
    const name = i < honest ? `agent${i}` : `rogue${i}`;
    return {
      name,
      provider: `provider${i}`,
      token: `token-provider${i}`,
      model: MODELS[i % MODELS.length]!,
      price: priceOf(random),
      slots: random.int(1, 4),
      place: new Place(name, latencyOf(random)),
      keys: keyPairOf(random),
      random: random.fork(),
    };
  });
}

/** From the same house to the other side of the world. */
export function latencyOf(random: Random): { min: number; max: number } {
  const min = random.pick([0.2, 5, 60]);
  return { min, max: min * random.pick([1.1, 3, 20]) };
}

/** From free to dear, and odd enough that every rounding shows. */
function priceOf(random: Random): PriceWire {
  return {
    per_request: String(random.chance(0.5) ? 0 : random.int(1, 3_000_001)),
    per_million_input: String(random.chance(0.5) ? 0 : random.int(1, 7_777_777_777)),
    per_million_output: String(random.chance(0.1) ? 0 : random.int(1, 333_333_333_333)),
    ...(random.chance(0.3) ? { minimum: String(random.int(1, 2_000_000)) } : {}),
  };
}

/** What PKCS#8 puts before the 32 bytes of an Ed25519 key. */
const PKCS8_HEAD = Buffer.from("302e020100300506032b657004220420", "hex");

export function keyPairOf(random: Random): KeyPair {
  const secret = Uint8Array.from({ length: 32 }, () => random.int(0, 255));
  const pkcs8 = Buffer.concat([PKCS8_HEAD, secret]);
  const { x } = createPublicKey(createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" })).export({
    format: "jwk",
  });
  return { publicKey: x!, privateKey: toBase64Url(pkcs8) };
}
