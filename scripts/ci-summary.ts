/** Sums the JSON reports of several vitest runs into the one closing line, and fails where any test failed. */
import { readFileSync } from "node:fs";

interface Report {
  numPassedTests: number;
  numFailedTests: number;
  numPendingTests: number;
  numTodoTests: number;
  numFailedTestSuites: number;
  success: boolean;
}

const reports = process.argv.slice(2).map((path) => JSON.parse(readFileSync(path, "utf8")) as Report);
const sum = (count: (report: Report) => number) =>
  reports.reduce((total, report) => total + count(report), 0);
// A file that could not even be loaded has no failed test; it counts as one.
const unloaded = sum((report) =>
  report.success ? 0 : Math.max(0, report.numFailedTests > 0 ? 0 : report.numFailedTestSuites || 1),
);
const failed = sum((report) => report.numFailedTests) + unloaded;
console.log(
  `${sum((report) => report.numPassedTests)} passed, ${failed} failed, ${sum((report) => report.numPendingTests + report.numTodoTests)} skipped`,
);
process.exitCode = failed > 0 ? 1 : 0;
