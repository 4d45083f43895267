import { formatCredits } from "@gfe/protocol";
import { askAgent } from "../control/client.ts";
import { type AgentStatus, counted, standingOf } from "../control/status.ts";
import type { Host } from "../host.ts";
import { durationText, minutesText, printable } from "../panel/text.ts";
import type { Output } from "./command.ts";
import { withStatus } from "./running.ts";

/** `gfe status`. */
export async function statusCommand(host: Host, options: { json?: boolean }, out: Output): Promise<number> {
  return withStatus(await askAgent(host), options, out, (status) => {
    for (const line of statusLines(status)) out.line(printable(line));
  });
}

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;

/** For people: a fact a line. */
export function statusLines(status: AgentStatus): string[] {
  const { earnings, offers, attempts, gpus, served } = status;
  const credits = (micro: string) => formatCredits(BigInt(micro));
  const standing = standingOf(status);
  return [
    `State      ${standing.state}: ${standing.words}`,
    `Node       ${status.name}${status.node_id === null ? "" : ` (${status.node_id})`} at ${status.hub}`,
    `Agent      ${status.version}, process ${status.process_id}, up ${minutesText(status.now_ms - status.started_at_ms)}`,
    earnings === null
      ? "Earned     not told yet: ask again in a moment"
      : `Earned     ${credits(earnings.today_micro)} credits today with ${counted(earnings.jobs_today, "answer")}, ${credits(earnings.hour_micro)} in the last hour; balance ${credits(earnings.available_micro)}`,
    `Served     ${counted(served.done, "answer")}, ${counted(served.output_tokens, "token")}${served.failed > 0 ? `, ${served.failed} failed` : ""} since its start`,
    ...(status.waiting === null ? [] : [`Queue      ${counted(status.waiting, "request")} at the hub`]),
    ...gpus.map(
      (gpu) =>
        `GPU        ${gpu.name}${gpu.load_percent === null ? "" : `, ${gpu.load_percent} %`}${gpu.temperature_c === null ? "" : `, ${gpu.temperature_c} °C`}`,
    ),
    ...offers.map(
      ({ model, running, slots, engine }) => `Model      ${model}: ${running} of ${slots} slots, ${engine}`,
    ),
    ...status.speeds.map(
      ({ model, ttft_ms, tokens_s }) =>
        `Speed      ${model}: ${tokens_s === null ? "" : `${tokens_s.toFixed(1)} tokens/s, `}first token after ${Math.round(ttft_ms)} ms`,
    ),
    ...status.engines.flatMap(({ label, compute }) =>
      compute === null
        ? []
        : `Computes   ${label} on ${compute.device}: ${compute.gpu_layers} of ${compute.layers} layers on the GPU, ${gigabytes(compute.gpu_memory_bytes)} there and ${gigabytes(compute.memory_bytes)} in main memory`,
    ),
    ...status.withdrawn.map(({ model, reason }) => `Kept back  ${model}: ${reason}`),
    ...status.engines
      .filter(({ error }) => error !== null)
      .map(({ kind, label, error }) => `Engine     ${kind} at ${label}: ${error}`),
    ...attempts.map(
      ({ model, tokens, tokens_s, started_at_ms }) =>
        `Running    ${model}: ${counted(tokens, "token")}${tokens_s === null ? "" : ` at ${tokens_s.toFixed(1)}/s`}, for ${durationText(status.now_ms - started_at_ms)}`,
    ),
  ];
}
