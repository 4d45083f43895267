import { useMutation, useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { type FormEvent, useState } from "react";
import { client, credits, queryClient } from "../client.ts";
import { safeBack } from "../parts/account.tsx";
import { Fault, Field, Page } from "../parts/parts.tsx";

const NAMES = { google: "Google", github: "GitHub", microsoft: "Microsoft" };
const PASSWORD = { min: 8, max: 128 };

export function SignIn() {
  const [mode, setMode] = useState<"in" | "up">("in");
  const { back, error } = useSearch({ from: "/sign-in" });
  const config = useQuery({
    queryKey: ["config"],
    queryFn: client.config,
    staleTime: Number.POSITIVE_INFINITY,
  });
  const gift = config.data?.signup_credits_micro ?? "0";
  const intro = mode === "up" && gift !== "0" ? `New accounts start with ${credits(gift)} credits.` : null;
  return (
    <Page title={mode === "in" ? "Sign in" : "Register"} intro={intro}>
      {error && <Fault error={`Signing in failed: ${error.replaceAll("_", " ")}`} />}
      <div className="card max-w-md space-y-4">
        <WithPassword key={mode} mode={mode} back={safeBack(back)} />
        <button type="button" className="button w-full" onClick={() => setMode(mode === "in" ? "up" : "in")}>
          {mode === "in" ? "I have no account yet" : "I have an account"}
        </button>
        {config.data?.sign_in_with.map((provider) => (
          <WithProvider key={provider} provider={provider} back={safeBack(back)} />
        ))}
      </div>
    </Page>
  );
}

function WithPassword({ mode, back }: { mode: "in" | "up"; back: string }) {
  const navigate = useNavigate();
  const submit = useMutation({
    mutationFn: async (form: FormData) => {
      const text = (field: string) => String(form.get(field) ?? "");
      const [email, password] = [text("email"), text("password")];
      const name = text("name").trim() || email.split("@")[0]!;
      if (mode === "up") await client.signUp({ email, password, name });
      else await client.signIn({ email, password });
    },
    onSuccess: async () => {
      await queryClient.invalidateQueries();
      await navigate({ href: back });
    },
  });
  const onSubmit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    submit.mutate(new FormData(event.currentTarget));
  };
  return (
    <form onSubmit={onSubmit} className="space-y-4">
      {mode === "up" && <Field label="Name (optional)" name="name" autoComplete="name" maxLength={80} />}
      <Field label="E-mail" name="email" type="email" autoComplete="email" required />
      <Field
        label="Password"
        name="password"
        type="password"
        autoComplete={mode === "in" ? "current-password" : "new-password"}
        {...(mode === "up" ? { hint: `At least ${PASSWORD.min} characters`, minLength: PASSWORD.min } : {})}
        maxLength={PASSWORD.max}
        required
      />
      <Fault error={submit.error} />
      <button type="submit" className="button-gold w-full" disabled={submit.isPending}>
        {mode === "in" ? "Sign in" : "Register"}
      </button>
    </form>
  );
}

function WithProvider({ provider, back }: { provider: keyof typeof NAMES; back: string }) {
  const leave = useMutation({
    mutationFn: async () => {
      const errorCallbackURL = `/sign-in?back=${encodeURIComponent(back)}`;
      window.location.assign(await client.socialSignInUrl({ provider, callbackURL: back, errorCallbackURL }));
    },
  });
  return (
    <>
      <button
        type="button"
        className="button w-full"
        disabled={leave.isPending}
        onClick={() => leave.mutate()}
      >
        Continue with {NAMES[provider]}
      </button>
      <Fault error={leave.error} />
    </>
  );
}
