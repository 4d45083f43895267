/** The journal as `gfe up` keeps it, for tests of whole systems. */
export { createJournal } from "../control/journal.ts";
export { recordOf } from "../control/records.ts";
