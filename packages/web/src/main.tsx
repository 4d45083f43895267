import { QueryClientProvider } from "@tanstack/react-query";
import { createRootRoute, createRoute, createRouter, Link, RouterProvider } from "@tanstack/react-router";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { queryClient } from "./client.ts";
import { Device } from "./pages/device.tsx";
import { Download } from "./pages/download.tsx";
import { JOB_STATES, Jobs, type JobsSearch } from "./pages/jobs.tsx";
import { Keys } from "./pages/keys.tsx";
import { Landing } from "./pages/landing.tsx";
import { LedgerPage } from "./pages/ledger.tsx";
import { Nodes } from "./pages/nodes.tsx";
import { Playground } from "./pages/playground.tsx";
import { Prices } from "./pages/prices.tsx";
import { SignIn } from "./pages/sign-in.tsx";
import { Fault, Page } from "./parts/parts.tsx";
import { parseSearch, stringifySearch } from "./search.ts";
import { Shell } from "./shell.tsx";
import "./style.css";

const root = createRootRoute({
  component: Shell,
  notFoundComponent: () => (
    <Page title="There is nothing here">
      <Link to="/" className="button inline-block">
        To the start
      </Link>
    </Page>
  ),
});
const text = (value: unknown) => (typeof value === "string" && value !== "" ? value : undefined);

const routes = [
  createRoute({ getParentRoute: () => root, path: "/", component: Landing }),
  createRoute({
    getParentRoute: () => root,
    path: "/sign-in",
    component: SignIn,
    validateSearch: ({ back, error }): { back?: string; error?: string } => ({
      back: text(back),
      error: text(error),
    }),
  }),
  createRoute({ getParentRoute: () => root, path: "/playground", component: Playground }),
  createRoute({
    getParentRoute: () => root,
    path: "/jobs",
    component: Jobs,
    validateSearch: (search): JobsSearch => ({
      state: JOB_STATES.find((state) => state === search.state),
      role: search.role === "provider" ? "provider" : undefined,
    }),
  }),
  createRoute({ getParentRoute: () => root, path: "/keys", component: Keys }),
  createRoute({ getParentRoute: () => root, path: "/nodes", component: Nodes }),
  createRoute({ getParentRoute: () => root, path: "/prices", component: Prices }),
  createRoute({
    getParentRoute: () => root,
    path: "/device",
    component: Device,
    validateSearch: ({ user_code }): { user_code?: string } => ({ user_code: text(user_code) }),
  }),
  createRoute({ getParentRoute: () => root, path: "/download", component: Download }),
  createRoute({ getParentRoute: () => root, path: "/ledger", component: LedgerPage }),
] as const;

const router = createRouter({
  routeTree: root.addChildren([...routes]),
  parseSearch,
  stringifySearch,
  scrollRestoration: true,
  defaultErrorComponent: ({ error }) => (
    <Page title="This page broke">
      <Fault error={error} />
    </Page>
  ),
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <QueryClientProvider client={queryClient}>
      <RouterProvider router={router} />
    </QueryClientProvider>
  </StrictMode>,
);
