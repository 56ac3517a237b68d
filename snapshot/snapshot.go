// Package snapshot reads a production host into an Inventory: its packages, its
// facts, and every path that could be needed to rebuild it. It never writes to
// the host, knows no package format and no way to reach one: those are drivers
// (snapshot/pkgdb, snapshot/host, snapshot/scrub), and cmd hands them in.
package snapshot
