package main

import (
	"runtime/debug"
	"time"
)

const (
	// How often is looked whether there is something to give back; soon after the start for the first time.
	settleLook  = 15 * time.Second
	settleFirst = 3 * time.Second
	// More turns of the loop than this between two looks are work, fewer are heartbeats.
	quietTurns = 100
)

// settle gives back to the system what the start, and later each time of work, needed and idling does not.
func settle(l *loop) {
	time.Sleep(settleFirst)
	debug.SetGCPercent(collectPercent)
	var seen uint64
	for {
		turns := l.turns.Load()
		if turns-seen < quietTurns || seen == 0 {
			debug.FreeOSMemory()
			forgetOwnPages()
		}
		seen = turns
		time.Sleep(settleLook)
	}
}
