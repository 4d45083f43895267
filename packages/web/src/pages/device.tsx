import { useMutation, useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import type { FormEvent } from "react";
import { client } from "../client.ts";
import { SignedIn } from "../parts/account.tsx";
import { Fault, Field, Page } from "../parts/parts.tsx";

export function Device() {
  const { user_code: code } = useSearch({ from: "/device" });
  const navigate = useNavigate({ from: "/device" });
  const onSubmit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    void navigate({ search: { user_code: String(new FormData(event.currentTarget).get("code")).trim() } });
  };
  return (
    <SignedIn title="Approve a machine">
      <Page
        title="Approve a machine"
        intro="Only approve a code that you see on a machine of your own, now. It will earn for your account."
      >
        {code ? (
          <Approval key={code} code={code} />
        ) : (
          <form onSubmit={onSubmit} className="card max-w-md space-y-4">
            <Field label="Code" name="code" required autoComplete="off" maxLength={20} />
            <button type="submit" className="button-gold">
              Continue
            </button>
          </form>
        )}
      </Page>
    </SignedIn>
  );
}

function Approval({ code }: { code: string }) {
  const { data, error } = useQuery({
    queryKey: ["device", code],
    queryFn: () => client.deviceRequest(code),
    retry: false,
  });
  const decide = useMutation({ mutationFn: (approve: boolean) => client.decideDevice(code, approve) });
  if (error) return <Fault error={error} />;
  if (!data) return <p className="text-text-2">Looking …</p>;
  if (decide.isSuccess)
    return (
      <p role="status" className="card text-success">
        ✓ {decide.variables ? "Approved: the machine goes on by itself." : "Denied."}
      </p>
    );
  return (
    <div className="card max-w-md space-y-4">
      <dl className="grid grid-cols-2 gap-2">
        <dt className="text-text-2">Code</dt>
        <dd className="font-mono">{data.user_code}</dd>
        <dt className="text-text-2">Machine says it is</dt>
        <dd className="break-words">{data.host_name}</dd>
        <dt className="text-text-2">GPU</dt>
        <dd className="break-words">{data.gpu ?? "none that it tells of"}</dd>
        <dt className="text-text-2">Asked from</dt>
        <dd className="font-mono break-all">{data.address ?? "unknown"}</dd>
        <dt className="text-text-2">Program</dt>
        <dd>{data.client}</dd>
      </dl>
      <p className="rounded-lg border border-warn p-3 text-warn">
        ⚠ Did somebody send you this link or code? Then deny it: whoever approves lends the machine this
        account.
      </p>
      {data.state === "pending" ? (
        <div className="flex gap-3">
          <button
            type="button"
            className="button-gold"
            disabled={decide.isPending}
            onClick={() => decide.mutate(true)}
          >
            Approve
          </button>
          <button
            type="button"
            className="button"
            disabled={decide.isPending}
            onClick={() => decide.mutate(false)}
          >
            Deny
          </button>
        </div>
      ) : (
        <p role="status" className="text-text-2">
          This code was {data.state} already. Ask the machine for a new one.
        </p>
      )}
      <Fault error={decide.error} />
    </div>
  );
}
