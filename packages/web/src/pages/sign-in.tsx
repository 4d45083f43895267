import { useMutation, useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { type FormEvent, useState } from "react";
import { client, credits, queryClient } from "../client.ts";
import { Fault, Field, Page } from "../parts/parts.tsx";

const NAMES = { google: "Google", github: "GitHub", microsoft: "Microsoft" };

export function SignIn() {
  const [mode, setMode] = useState<"in" | "up">("in");
  const { back } = useSearch({ from: "/sign-in" });
  const navigate = useNavigate();
  const config = useQuery({
    queryKey: ["config"],
    queryFn: client.config,
    staleTime: Number.POSITIVE_INFINITY,
  });
  const submit = useMutation({
    mutationFn: async (form: FormData) => {
      const [email, password, name] = ["email", "password", "name"].map((field) =>
        String(form.get(field) ?? ""),
      );
      if (mode === "up")
        await client.signUp({ email: email!, password: password!, name: name || email!.split("@")[0]! });
      else await client.signIn({ email: email!, password: password! });
    },
    onSuccess: async () => {
      await queryClient.invalidateQueries();
      // Only a path of this site: an address from a link must not lead away.
      await navigate({ href: back?.startsWith("/") && !back.startsWith("//") ? back : "/" });
    },
  });
  const social = useMutation({
    mutationFn: async (provider: keyof typeof NAMES) => {
      window.location.assign(await client.socialSignInUrl({ provider, callbackURL: back ?? "/" }));
    },
  });
  const onSubmit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    submit.mutate(new FormData(event.currentTarget));
  };
  const gift =
    config.data && config.data.signup_credits_micro !== "0"
      ? `New accounts start with ${credits(config.data.signup_credits_micro)} credits.`
      : undefined;
  return (
    <Page title={mode === "in" ? "Sign in" : "Register"} intro={mode === "up" ? gift : undefined}>
      <form onSubmit={onSubmit} className="card max-w-md space-y-4">
        {mode === "up" && <Field label="Name" name="name" autoComplete="name" maxLength={80} />}
        <Field label="E-mail" name="email" type="email" autoComplete="email" required />
        <Field
          label="Password"
          name="password"
          type="password"
          autoComplete={mode === "in" ? "current-password" : "new-password"}
          minLength={8}
          maxLength={128}
          required
        />
        <Fault error={submit.error ?? social.error} />
        <div className="flex flex-wrap gap-3">
          <button type="submit" className="button-gold" disabled={submit.isPending}>
            {mode === "in" ? "Sign in" : "Register"}
          </button>
          <button type="button" className="button" onClick={() => setMode(mode === "in" ? "up" : "in")}>
            {mode === "in" ? "I have no account" : "I have an account"}
          </button>
        </div>
        {config.data?.sign_in_with.map((provider) => (
          <button
            key={provider}
            type="button"
            className="button w-full"
            onClick={() => social.mutate(provider)}
          >
            Continue with {NAMES[provider]}
          </button>
        ))}
      </form>
    </Page>
  );
}
