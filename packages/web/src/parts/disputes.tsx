/** What consumers dispute: their form for it, and what providers see of it. */
import type { DisputeReason, Job, NodeView } from "@gfe/sdk";
import { useMutation, useQuery } from "@tanstack/react-query";
import { type FormEvent, useId } from "react";
import { client, queryClient, when } from "../client.ts";
import { Fault, Field, Table } from "./parts.tsx";

const REASONS: Record<DisputeReason, string> = {
  empty: "It was empty",
  gibberish: "It was gibberish",
  wrong_model: "It was another model's",
  cut_off: "It was cut off",
  other: "Something else",
};
/** As long as the hub takes one. */
const DISPUTED_WITHIN_MS = 24 * 3_600_000;

export const isDisputable = ({ state, ended_at }: Job): boolean =>
  state === "completed" && ended_at !== null && Date.now() - Date.parse(ended_at) < DISPUTED_WITHIN_MS;

export function DisputeForm({ job, onDone }: { job: Job; onDone: () => void }) {
  const reason = useId();
  const send = useMutation({
    mutationFn: (form: HTMLFormElement) => {
      const fields = new FormData(form);
      const note = String(fields.get("note")).trim();
      const body = { reason: String(fields.get("reason")) as DisputeReason };
      return client.dispute(job.id, note === "" ? body : { ...body, note });
    },
    onSuccess: async () => {
      await queryClient.invalidateQueries({ queryKey: ["disputes"] });
      onDone();
    },
  });
  const onSubmit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    send.mutate(event.currentTarget);
  };
  return (
    <form onSubmit={onSubmit} className="card space-y-4" aria-label="Dispute a job">
      <h2 className="text-lg font-semibold">
        What was wrong with the answer of {job.model} on {job.node_name ?? "its node"}, {when(job.created_at)}
        ?
      </h2>
      <p className="text-text-2">
        It counts in the node's reputation. Nothing is paid back by it, and its provider does not learn who
        you are.
      </p>
      <div className="grid gap-4 sm:grid-cols-2">
        <div className="space-y-1">
          <label htmlFor={reason} className="text-sm text-text-2">
            Reason
          </label>
          <select id={reason} name="reason" className="field">
            {Object.entries(REASONS).map(([name, words]) => (
              <option key={name} value={name}>
                {words}
              </option>
            ))}
          </select>
        </div>
        <Field label="Note for the provider (optional)" name="note" maxLength={500} />
      </div>
      <Fault error={send.error} />
      <div className="flex gap-3">
        <button type="submit" className="button-gold" disabled={send.isPending}>
          Dispute it
        </button>
        <button type="button" className="button" onClick={onDone}>
          Leave it
        </button>
      </div>
    </form>
  );
}

export function ProviderDisputes({ nodes }: { nodes: readonly NodeView[] }) {
  const { data, error } = useQuery({
    queryKey: ["disputes", "provider"],
    queryFn: () => client.disputes({ role: "provider" }),
  });
  const names = new Map(nodes.map(({ id, name }) => [id, name]));
  return (
    <>
      <h2 className="text-xl font-semibold">Disputes</h2>
      <Fault error={error} />
      <Table
        caption="Disputed answers, the newest job first"
        head={["Node", "Model", "What consumers say", "Note", "Weight", "When"]}
        rows={
          data?.disputes.map((dispute) => [
            names.get(dispute.node_id) ?? dispute.node_id,
            <span key="model" className="break-all">
              {dispute.model}
            </span>,
            REASONS[dispute.reason],
            dispute.note ?? "–",
            dispute.weight.toFixed(2),
            when(dispute.created_at),
          ]) ?? null
        }
        empty="Nobody disputes an answer of your nodes."
      />
    </>
  );
}
