/** A running agent as its owner sees and steers it: its events gathered into a status, its endpoint, its journal. */
import type { CanaryReport, NodeStanding } from "@gfe/protocol";
import type { Agent, AgentEvent } from "../agent.ts";
import { createEarnings } from "../earnings.ts";
import { type Guest, startGuest } from "../guest/guest.ts";
import type { Host, Serving } from "../host.ts";
import type { SandboxStatus } from "../sandbox/sandbox.ts";
import { askStanding, askTest } from "../standing.ts";
import { AGENT_VERSION } from "../version.ts";
import { createJournal, type Journal } from "./journal.ts";
import { recordOf } from "./records.ts";
import { serveControl } from "./server.ts";
import { readSettings } from "./settings.ts";
import type { AgentConnection, AgentStatus } from "./status.ts";

export interface ControlOptions {
  host: Host;
  /** The hub's origin. */
  hub: string;
  token: string;
  name: string;
  /** What confines the engines that the agent started. */
  sandbox?: SandboxStatus | null;
  /** Ends an agent that has not joined yet. */
  abort(): void;
}

export interface Control {
  readonly journal: Journal;
  readonly guest: Guest;
  status(): AgentStatus;
  /** For AgentOptions.onEvent. */
  onEvent(event: AgentEvent): void;
  /** It has joined for the first time. */
  joined(agent: Agent): void;
  /** Something to look at anew; never more often than events come. */
  onChange(listener: () => void): () => void;
  drain(now: boolean): void;
  refresh(): Promise<void>;
  standing(): Promise<NodeStanding>;
  test(model: string): Promise<CanaryReport>;
  close(): Promise<void>;
}

/** Serves the endpoint until closed. Rejects with EndpointTaken where an agent with this state directory runs already. */
export async function startControl(options: ControlOptions): Promise<Control> {
  const { host, hub, name } = options;
  const startedAtMs = host.nowMs();
  const journal = createJournal(host);
  const listeners = new Set<() => void>();
  const changed = () => {
    for (const listener of [...listeners]) listener();
  };
  const call = { host, origin: hub, token: options.token };
  const earnings = createEarnings(call, changed);
  const guest = await startGuest({
    host,
    settings: await readSettings(host),
    onChange() {
      heed();
      notePause();
      changed();
    },
  });
  const served = { done: 0, failed: 0, input_tokens: 0, output_tokens: 0 };
  let agent: Agent | null = null;
  let nodeId: string | null = null;
  let engines: AgentStatus["engines"] = [];
  let draining = false;
  let measuring = false;
  let speeds: AgentStatus["speeds"] = [];
  let connection: AgentConnection = {
    state: "connecting",
    since_ms: startedAtMs,
    problem: null,
    retry_at_ms: null,
  };

  /** What the guest says holds for the agent from now on. */
  function heed(): void {
    const { serving, slots, reasons } = guest.state();
    agent?.setServing(serving, reasons[0]?.code);
    agent?.limitSlots(slots);
    agent?.limitEngines(new Map(Object.entries(guest.settings().limits.engine_slots ?? {})));
  }

  /** Once a change: what has paused it, or that nothing does. */
  let pausedBy = "";
  function notePause(): void {
    const { reasons } = guest.state();
    const codes = reasons.map(({ code }) => code).join();
    if (codes === pausedBy) return;
    pausedBy = codes;
    const at_ms = Math.round(host.nowMs());
    journal.put(reasons[0] ? { at_ms, type: "paused", reasons } : { at_ms, type: "resumed" });
  }

  function connected(
    state: AgentConnection["state"],
    problem: string | null,
    retryAtMs: number | null,
  ): void {
    const since = state === connection.state ? connection.since_ms : host.nowMs();
    connection = { state, since_ms: since, problem, retry_at_ms: retryAtMs };
  }

  function note(event: AgentEvent): void {
    switch (event.type) {
      case "engines":
        engines = event.engines.map(({ compute, ...engine }) => ({
          ...engine,
          compute: compute && {
            ...{ device: compute.device, gpu_layers: compute.gpuLayers, layers: compute.layers },
            ...{ gpu_memory_bytes: compute.gpuMemoryBytes, memory_bytes: compute.memoryBytes },
          },
        }));
        return;
      case "measuring":
        measuring = true;
        return;
      case "speed":
        speeds = [
          ...speeds,
          ...[
            { model: event.model, engine: event.engine, ttft_ms: event.ttftMs, tokens_s: event.tokensPerS },
          ],
        ];
        return;
      case "joined":
        measuring = false;
        nodeId = event.nodeId;
        return connected("joined", null, null);
      case "disconnected":
        return connected("connecting", event.reason, null);
      case "waiting":
        return connected("waiting", event.reason, host.nowMs() + event.delayMs);
      case "attempt.ended":
        served[event.failure === null ? "done" : "failed"]++;
        served.input_tokens += event.inputTokens;
        served.output_tokens += event.outputTokens;
        return earnings.changed();
      case "draining":
        draining = true;
        return;
      default:
        return;
    }
  }

  function ownId(): string {
    if (nodeId === null) throw new Error("the agent has not joined its hub yet: see `gfe status`");
    return nodeId;
  }

  function status(): AgentStatus {
    const attempts = agent?.attempts ?? [];
    const earned = nodeId === null || connection.state !== "joined" ? null : earnings.look(nodeId);
    return {
      version: AGENT_VERSION,
      process_id: host.processId,
      started_at_ms: startedAtMs,
      now_ms: host.nowMs(),
      ...{ name, hub, node_id: nodeId, connection, draining, engines, measuring, speeds },
      slots: agent?.slots ?? 0,
      offers: (agent?.offers ?? []).map(({ model, slots, engine }) => ({
        ...{ model, slots, engine },
        running: attempts.filter((attempt) => attempt.model === model).length,
      })),
      withdrawn: (agent?.withdrawals ?? []).map(({ model, engine, code, reason, retryInMs }) => ({
        ...{ model, engine: engine.label, code, reason, retry_in_ms: retryInMs },
      })),
      attempts: attempts.map(({ attempt, model, startedAtMs, tokens, tokensPerS }) => ({
        ...{ attempt, model, tokens, started_at_ms: startedAtMs, tokens_s: tokensPerS },
      })),
      paused: guest.state().reasons,
      ...guest.settings(),
      gpus: guest.state().readings.gpus,
      sandbox: options.sandbox ?? null,
      served: { ...served },
      earnings: earned && {
        today_micro: earned.todayMicro,
        jobs_today: earned.jobsToday,
        hour_micro: earned.hourMicro,
        since_start_micro: earned.sinceStartMicro,
        available_micro: earned.availableMicro,
        asked_at_ms: earned.askedAtMs,
      },
      waiting: earned?.waiting ?? null,
    };
  }

  const control: Omit<Control, "close"> = {
    journal,
    guest,
    status,
    onEvent(event) {
      note(event);
      journal.put(recordOf(event, host.nowMs()));
      changed();
    },
    joined(joinedAgent) {
      agent = joinedAgent;
      heed();
      notePause();
      changed();
    },
    onChange(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    drain(now) {
      if (!agent) return options.abort();
      void (now ? agent.stop() : agent.drain());
    },
    refresh: () => agent?.refresh() ?? Promise.resolve(),
    standing: async () => askStanding(call, ownId()),
    test: async (model) => askTest(call, ownId(), model),
  };
  const serving: Serving = await serveControl({ host, ...control });
  return {
    ...control,
    async close() {
      earnings.close();
      await guest.close();
      await journal.close();
      await serving.close();
    },
  };
}
