/** Debian's chromium, driven by playwright-core: no browser of its own is downloaded. */
import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";

const PATHS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** Where the browser is; null where there is none, which only a developer's machine may say. */
export function findBrowser(): string | null {
  const path = process.env.GFE_CHROMIUM ?? PATHS.find((candidate) => existsSync(candidate));
  if (path) return path;
  if (process.env.CI) throw new Error("chromium is missing: CI must test the dashboard in a browser");
  console.warn("\n*** SKIPPED: the dashboard is NOT tested in a browser, for want of chromium ***\n");
  return null;
}

export function launchBrowser(executablePath: string): Promise<Browser> {
  return chromium.launch({
    executablePath,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}
