import { BUILD } from "./build.ts";

/** Told to the hub, and shown to a node's owner. */
export const AGENT_VERSION: string = BUILD.version ?? "0.1.0";
