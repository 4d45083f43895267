/** Why an agent can't go on. `message` says what to do about it. */
export type AgentFault =
  | "unauthenticated"
  | "revoked"
  | "hub_key_changed"
  | "hub_untrusted"
  | "proof_refused"
  | "version_refused"
  | "replaced"
  | "insecure_hub"
  | "invalid_hub"
  | "identity_unreadable"
  | "home_unwritable"
  | "invalid_setting"
  | "stopped";

export class AgentError extends Error {
  readonly code: AgentFault;

  constructor(code: AgentFault, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "AgentError";
    this.code = code;
  }
}
