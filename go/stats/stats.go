// SPDX-License-Identifier: MIT

// Package stats returns the statistics of asynchronous file I/O to the program itself. Copy this
// file into your program. It compiles with the overlay of `aioshim go` and without it.
//
//	expvar.Publish("aioshim", expvar.Func(func() any { return json.RawMessage(stats.Stats()) }))
package stats

import _ "unsafe" // for go:linkname

// programStats is the variable of package internal/poll with the overlay, and nil without it.
//
//go:linkname programStats internal/poll.aioProgramStats
var programStats func() []byte

// Stats returns the statistics as JSON, with the names that AIOSHIM_STATS=json prints, or nil if
// the program was built without the overlay. Unless AIOSHIM_STATS is set, counting begins with the
// first call.
func Stats() []byte {
	if programStats == nil {
		return nil
	}
	return programStats()
}
