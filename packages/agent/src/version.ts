/** Told to the hub, and shown to a node's owner. */
export const AGENT_VERSION = "0.1.0";
