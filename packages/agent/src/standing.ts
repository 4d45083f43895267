/** Which node this machine is at its hub, and why it gets requests there, or does not. */
import {
  agentSelfSchema,
  type CanaryReport,
  canaryReportSchema,
  type NodeStanding,
  nodeStandingSchema,
} from "@gfe/protocol";
import { z } from "zod";
import type { Host } from "./host.ts";
import { askHub, type HubAnswer, type HubCall, problemOf } from "./hub-api.ts";
import { KEY_FILE } from "./identity.ts";

/** A test request goes the way of a job, at the pace of its engine. */
const CANARY_MS = 120_000;

const keySchema = z.object({ public_key: z.string() });

/** The public half of this machine's node key; null where it has none. Makes none. */
export async function nodeKeyOf({
  files,
  directories,
}: Pick<Host, "files" | "directories">): Promise<string | null> {
  try {
    const bytes = await files.read(files.join(directories.config, KEY_FILE));
    return bytes && keySchema.parse(JSON.parse(new TextDecoder().decode(bytes))).public_key;
  } catch {
    return null;
  }
}

/** The id of the account's node with this key; null where the hub knows none. Throws in the hub's words. */
export async function nodeIdOf(call: HubCall, nodeKey: string | null): Promise<string | null> {
  const query = nodeKey === null ? "" : `?node_key=${encodeURIComponent(nodeKey)}`;
  return agentSelfSchema.parse(told(await askHub(call, `/api/v1/agent-tokens/self${query}`))).node_id;
}

/** Throws in the hub's words. */
export async function askStanding(call: HubCall, nodeId: string): Promise<NodeStanding> {
  return nodeStandingSchema.parse(
    told(await askHub(call, `/api/v1/nodes/${encodeURIComponent(nodeId)}/standing`)),
  );
}

/** Sends the node a test request for one model. Throws in the hub's words. */
export async function askTest(call: HubCall, nodeId: string, model: string): Promise<CanaryReport> {
  const path = `/api/v1/nodes/${encodeURIComponent(nodeId)}/canary`;
  return canaryReportSchema.parse(
    told(await askHub(call, path, { method: "POST", body: { model }, timeoutMs: CANARY_MS })),
  );
}

export class HubRefused extends Error {
  readonly status: number;
  constructor(answer: HubAnswer) {
    super(problemOf(answer));
    this.name = "HubRefused";
    this.status = answer.status;
  }
}

function told(answer: HubAnswer): unknown {
  if (answer.status !== 200) throw new HubRefused(answer);
  return answer.body;
}
