/** The two proofs of a handshake: the node's over the hub's challenge, the hub's over its grant. */
import {
  type AgentFrame,
  type Announcement,
  type Elsewhere,
  type HubFrame,
  type HubGrant,
  nodeProof,
  PROTOCOL_VERSION,
  randomToken,
  type Signer,
  verifySignature,
} from "@gfe/protocol";
import { AgentError } from "./errors.ts";
import { AGENT_VERSION } from "./version.ts";

type Challenge = Extract<HubFrame, { type: "challenge" }>;
type Welcome = Extract<HubFrame, { type: "welcome" }>;
type Hello = Extract<AgentFrame, { type: "hello" }>;

export interface Handshake {
  hubKey: string;
  nodeNonce: string;
}

/**
 * The answer to a challenge. Throws AgentError where the hub is not the one that was pinned: signing for a stranger
 * would be harmless, working for one would not.
 */
export async function answerChallenge(
  challenge: Challenge,
  options: {
    origin: string;
    pinnedKey: string | undefined;
    signer: Signer;
    announcement: Announcement;
    elsewhere: Elsewhere;
  },
): Promise<{ handshake: Handshake; hello: Hello }> {
  const { pinnedKey, signer, origin } = options;
  if (challenge.version !== PROTOCOL_VERSION)
    throw new AgentError(
      "version_refused",
      `${origin} speaks version ${challenge.version} of the protocol, this agent version ${PROTOCOL_VERSION}: update the older of the two`,
    );
  if (pinnedKey !== undefined && challenge.hub_key !== pinnedKey)
    throw new AgentError(
      "hub_key_changed",
      `${origin} shows another key than when this node joined it. Either its operator moved it without its key, or someone is in between. Ask the operator; if the change is meant, forget the hub: remove its entry from hubs.json in the agent's configuration directory, then join anew.`,
    );
  const nodeNonce = randomToken(32);
  const proof = await signer.sign(
    nodeProof({
      hub_key: challenge.hub_key,
      nonce: challenge.nonce,
      node_key: signer.publicKey,
      node_nonce: nodeNonce,
    }),
  );
  return {
    handshake: { hubKey: challenge.hub_key, nodeNonce },
    hello: {
      type: "hello",
      version: PROTOCOL_VERSION,
      agent_version: AGENT_VERSION,
      node_key: signer.publicKey,
      node_nonce: nodeNonce,
      proof,
      announcement: options.announcement,
      ...(options.elsewhere.length > 0 ? { elsewhere: options.elsewhere } : {}),
    },
  };
}

/** The grant of a welcome, checked to be this hub's, for this node and this connection. Throws AgentError. */
export async function checkWelcome(
  welcome: Welcome,
  handshake: Handshake,
  nodeKey: string,
  origin: string,
): Promise<HubGrant> {
  const { grant } = welcome;
  const matches =
    grant.hub_key === handshake.hubKey &&
    grant.node_key === nodeKey &&
    grant.node_nonce === handshake.nodeNonce &&
    grant.node_id === welcome.node_id;
  if (!matches || !(await verifySignature(handshake.hubKey, grant, welcome.signature)))
    throw new AgentError(
      "hub_untrusted",
      `${origin} could not prove that it holds the key it shows: something between this machine and the hub interferes`,
    );
  return grant;
}
