/** Known vulnerabilities in what the product ships. Where the registry has no audit endpoint it says so, loudly. */
import { spawnSync } from "node:child_process";

interface Report {
  metadata?: { vulnerabilities: Record<string, number> };
  vulnerabilities?: Record<string, { severity: string; via: unknown[] }>;
}

const { stdout } = spawnSync("npm", ["audit", "--omit=dev", "--json"], { encoding: "utf8", timeout: 60_000 });
const report = parse(stdout);
if (!report?.metadata) {
  console.warn("AUDIT NOT DONE: the registry in use answers no audit requests.");
} else {
  const { high = 0, critical = 0 } = report.metadata.vulnerabilities;
  for (const [name, { severity }] of Object.entries(report.vulnerabilities ?? {}))
    console.log(`${severity.padEnd(9)} ${name}`);
  console.log(`audit: ${high} high, ${critical} critical`);
  if (high + critical > 0) process.exitCode = 1;
}

function parse(text: string): Report | null {
  try {
    return JSON.parse(text) as Report;
  } catch {
    return null;
  }
}
