import { GfeError } from "@gfe/protocol";

/** Why a job was told to stop, as its caller hears it: the hub's own reason, or that the caller went away. */
export const stopReason = (signal: AbortSignal): GfeError =>
  signal.reason instanceof GfeError ? signal.reason : new GfeError("cancelled");
