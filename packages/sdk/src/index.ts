export {
  type AgentToken,
  type ApiKey,
  type DeviceRequest,
  type Dispute,
  type DisputeReason,
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
  type NodeReputation,
  type NodeStanding,
  type NodeView,
  type PriceCapWire,
  type PricedModel,
  type PriceList,
  type PricePlace,
  type PriceSource,
  type PriceWire,
  type PublicConfig,
  parseCredits,
  type ReleaseFile,
  type ReleaseManifest,
  type SetPrice,
} from "@gfe/protocol";
export type { Session, SocialSignIn } from "./auth.ts";
export type { ChatAnswer, ChatDelta, ChatMessage, ChatRequest } from "./chat.ts";
export {
  createClient,
  type DisputesQuery,
  type JobsQuery,
  type PageQuery,
  type SdkClient,
} from "./client.ts";
export type { ProviderStats } from "./earnings.ts";
export { SdkError } from "./errors.ts";
export type { ClientOptions } from "./http.ts";
export type { LiveOptions, LiveState } from "./live.ts";
