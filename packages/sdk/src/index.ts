export {
  type AgentToken,
  type ApiKey,
  type DeviceRequest,
  formatCredits,
  type Job,
  type JobState,
  type KeyScope,
  type LedgerEntry,
  type LiveEvent,
  type LiveStats,
  type MarketModel,
  type MarketSnapshot,
  type Me,
  type NodeView,
  type PriceWire,
  type PublicConfig,
  parseCredits,
} from "@gfe/protocol";
export type { ChatAnswer, ChatDelta, ChatMessage, ChatRequest } from "./chat.ts";
export { type ClientOptions, createClient, type SdkClient } from "./client.ts";
export { SdkError } from "./errors.ts";
export type { LiveOptions, LiveState } from "./live.ts";
