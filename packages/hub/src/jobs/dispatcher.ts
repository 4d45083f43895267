/** How jobs reach nodes: jobs/ says what it needs, link/ implements it. */
import type { AttemptFailure, AttemptStart, DeltaKind, FinishReason, SignedReceipt } from "@gfe/protocol";

export interface AttemptSink {
  /** `payload` is a view that is valid only during the call. */
  delta(kind: DeltaKind, payload: Uint8Array): void;
  done(finish: FinishReason[], receipt: SignedReceipt): void;
  /** `node_lost`: its socket closed. Called instead of `done`, exactly once. */
  failed(code: AttemptFailure | "node_lost", message: string, receipt?: SignedReceipt): void;
}

export interface AttemptHandle {
  cancel(reason: string): void;
  pause(): void;
  resume(): void;
  /** Stops listening: whatever still comes is dropped as late. */
  forget(): void;
}

export interface Dispatcher {
  /** Null when the node is not connected here any more. */
  start(
    nodeId: string,
    attempt: Omit<AttemptStart, "type" | "channel">,
    sink: AttemptSink,
  ): AttemptHandle | null;
  /** The node's public key, to check receipts against. */
  nodeKey(nodeId: string): string | undefined;
}
