/** Every bound of the agent in one place. Sizes in bytes, times in milliseconds. */

export const ENGINE_LIMITS = {
  /** One line of an engine's stream. */
  lineBytes: 1024 * 1024,
  /** A JSON answer that is read whole: a list of models, an error. */
  jsonBytes: 4 * 1024 * 1024,
  /** The vectors of one embeddings request, as JSON. */
  embeddingsBytes: 256 * 1024 * 1024,
  /** A whole stream with all its wrapping, of which `answerBytes` may be text. */
  streamBytes: 1024 * 1024 * 1024,
  /** Text, reasoning and tool calls of one attempt; the hub refuses more too. */
  answerBytes: 64 * 1024 * 1024,
  errorTextLength: 500,
  /** For what an engine answers from memory: its models, its properties. */
  inquiryMs: 5_000,
  /** What an engine may take for its first word, loading the model included; a little less than a hub waits for it … */
  firstTokenMs: 110_000,
  /** … and its silence between two words, beyond which it is taken for hung; less than a hub's patience, too. */
  stallMs: 24_000,
} as const;

export const DETECT_LIMITS = { timeoutMs: 1_500, bodyBytes: 1024 * 1024, addresses: 32 } as const;

export const AGENT_LIMITS = {
  /** Between two looks at the engines' models. */
  refreshMs: 15_000,
  /** Looks in a row that an engine may fail before its models are withdrawn; a refused connection withdraws at once. */
  refreshFailures: 2,
  /** Every so many looks, engines that came are looked for, too. */
  detectEvery: 4,
  /** Looks in a row that an engine may fail before it is let go of: it is found again when it comes back. */
  forgetFailures: 12,
  /** Attempts that end, remembered to tell a repeated start. */
  endedRemembered: 1024,
  /** How long an engine may take to stop after an abort before its attempt is ended without it. */
  abortGraceMs: 150,
  drainMs: 60_000,
  /** What runs when the node is paused may go on for so long; with `stopMs` its memory is free within 5 s. */
  pauseMs: 2_000,
  stopMs: 2_000,
} as const;

/** Of attempts that a hub may ask for again after a lost connection. */
export const KEEP_LIMITS = {
  /** However long the hub would like it to be kept. */
  keepMs: 60_000,
  attempts: 256,
  bytes: 16 * 1024 * 1024,
  /** One that says more is lost with its connection. */
  attemptBytes: 1024 * 1024,
} as const;

export const SEND_LIMITS = {
  /** Bytes that wait in the socket above which the engines are no longer read … */
  congestedBytes: 1024 * 1024,
  /** … until it has come down to this. */
  clearBytes: 256 * 1024,
  /** Deltas are written one behind the other into pieces of memory of this size, each at most one message. */
  pieceBytes: 64 * 1024,
  /** Deltas kept back while the socket is congested; an engine that does not stop is aborted. */
  queuedBytes: 64 * 1024 * 1024,
  /** Base64 of vectors in one embeddings delta. */
  embeddingsBytes: 1024 * 1024,
} as const;

export const RECONNECT_LIMITS = {
  dialMs: 10_000,
  /** How long the hub has to answer the end of a connection. */
  closeMs: 500,
  firstMs: 500,
  longestMs: 30_000,
  /** A hub that leaves may ask its agents to go sooner than this, not later. */
  moveMs: 30_000,
  /** What a hub that leaves sent before it heard of the successor has come by then. */
  lingerMs: 1_000,
  /** A connection that held this long starts the back-off anew. */
  stableMs: 30_000,
  /** A node that has joined before takes one 401 for a hub in trouble, this many in a row for the truth. */
  unauthenticatedTries: 6,
  heartbeatMsMin: 1_000,
  heartbeatMsMax: 60_000,
} as const;

export const DEVICE_LIMITS = { requestMs: 10_000, bodyBytes: 64 * 1024, intervalS: 5, slowDownS: 5 } as const;

export const MODEL_LIMITS = {
  inquiryMs: 15_000,
  /** One page of a repository's list of files. */
  treeBytes: 4 * 1024 * 1024,
  treePages: 20,
  redirects: 5,
  /** Silence of a download, after which it is begun again where it stopped. */
  silenceMs: 30_000,
  /** Tries in a row that bring nothing. */
  tries: 6,
  /** Of a server that was not reached once. */
  firstTries: 2,
  firstWaitMs: 1_000,
  longestWaitMs: 30_000,
  /** Room that is left on the disk for others. */
  spareBytes: 512 * 1024 * 1024,
  /** Between two words about a download. */
  progressMs: 200,
  recordBytes: 64 * 1024,
} as const;
