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
	// The start may take longer than until the first look.
	startLooks = 3
)

// settle gives back to the system what the start, and later each time of work, needed and idling does not.
func settle(l *loop) {
	time.Sleep(settleFirst)
	debug.SetGCPercent(collectPercent)
	var seen uint64
	worked := true
	for look := 0; ; look++ {
		turns := l.turns.Load()
		quiet := turns-seen < quietTurns || seen == 0
		seen = turns
		switch {
		case !quiet:
			worked = true
		case worked || look < startLooks:
			worked = false
			debug.FreeOSMemory()
		}
		if quiet {
			forgetOwnPages()
		}
		time.Sleep(settleLook)
	}
}
