import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["{packages,bench,e2e,scripts}/**/*.test.ts"],
    exclude: ["**/node_modules/**", "bench/peers/**"],
    globalSetup: ["packages/hub/src/testing/global-setup.ts"],
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
