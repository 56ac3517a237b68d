package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/snapshot"
)

// testBoard is one without a clock of its own.
func testBoard(t *testing.T, mode string) (*board, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	b := newBoard(&meter{w: &out, mode: mode, width: func() int { return 40 }})
	b.ticker.Stop()
	t.Cleanup(b.close)
	return b, &out
}

func TestBoard(t *testing.T) {
	b, out := testBoard(t, progressBar)
	for _, target := range []string{"acme", "globex"} {
		b.event(envs.BuildEvent{Target: target, Phase: envs.PhaseWaiting, Begins: true})
	}
	b.event(envs.BuildEvent{Target: "globex", Phase: envs.PhaseBuilding, Text: "make", Begins: true})
	b.event(envs.BuildEvent{Target: "globex", Text: "cc \x1b[31m" + strings.Repeat("x", 50)})
	now := time.Now()
	b.refresh(now)
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "globex  building   ") || !strings.Contains(lines[0], "cc ?[31mx") ||
		!strings.HasSuffix(lines[0], "x…") || lines[1] != "acme    waiting" {
		t.Errorf("got %q", lines)
	}
	out.Reset()
	b.end(b.row("globex"), envs.BuildEvent{Target: "globex", Phase: envs.PhaseBuilt, Built: &envs.Built{Seconds: 75, Log: "/log"}})
	b.refresh(now)
	if got, want := out.String(), "\x1b[2A\r\x1b[Jglobex: built in 1:15 min; log: /log\nacme    waiting\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	out.Reset()
	b.close()
	if got := out.String(); got != "\x1b[1A\r\x1b[J" {
		t.Errorf("got %q", got)
	}
	// More than the terminal shows.
	b, out = testBoard(t, progressBar)
	for i := range 40 {
		b.event(envs.BuildEvent{Target: fmt.Sprint("target-", i), Phase: envs.PhaseWaiting, Begins: true})
	}
	b.refresh(now)
	if got := out.String(); strings.Count(got, "\n") != 23 || !strings.HasSuffix(got, "\nand 18 more\n") {
		t.Errorf("got %q", got)
	}
}

func TestBoardLines(t *testing.T) {
	b, out := testBoard(t, progressLines)
	log := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(log, []byte(strings.Repeat("a line of it\n", 2000)+"the \x07last\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.event(envs.BuildEvent{Target: "acme", Phase: envs.PhaseSyncing, Begins: true})
	b.event(envs.BuildEvent{Target: "acme", Phase: envs.PhaseBuilding, Text: "make all", Begins: true})
	b.event(envs.BuildEvent{Target: "acme", Text: "cc"})
	b.refresh(time.Now().Add(30 * time.Second))
	b.refresh(time.Now().Add(90 * time.Second))
	if got := out.String(); got != "acme: building: make all\nacme: still building, for 1:30 min: cc\n" {
		t.Errorf("got %q", got)
	}
	out.Reset()
	failed := &envs.BuildError{Target: "acme", Command: []string{"make"}, Code: 2, Log: log}
	b.event(envs.BuildEvent{Target: "acme", Phase: envs.PhaseFailed, Begins: true, Built: &envs.Built{Log: log, Seconds: 1}, Err: failed})
	want := "acme: failed after 1.0 s\n" + strings.Repeat("  | a line of it\n", 19) + "  | the ?last\n"
	if got := out.String(); got != want {
		t.Errorf("got %q", got)
	}
	out.Reset()
	b.event(envs.BuildEvent{Target: "globex", Phase: envs.PhaseFailed, Begins: true, Built: &envs.Built{}, Err: errors.New("no such thing")})
	if got := out.String(); got != "globex: failed after 0.0 s: no such thing\n" {
		t.Errorf("got %q", got)
	}
}

// What the syncing of a build took is told where it ends, and has no part of the rest.
func TestBoardEndsStages(t *testing.T) {
	b, out := testBoard(t, progressLines)
	b.streamed = true
	b.event(envs.BuildEvent{Target: "acme", Phase: envs.PhaseSyncing, Begins: true})
	b.meter.event(snapshot.Event{Stage: "syncing", Done: 2, Unit: "files"})
	b.begun = b.begun.Add(-2 * time.Second)
	b.event(envs.BuildEvent{Target: "acme", Phase: envs.PhaseBuilding, Text: "make", Begins: true})
	if got := out.String(); got != "syncing: 2 files in 2.0 s\n" {
		t.Errorf("got %q", got)
	}
	out.Reset()
	b.event(envs.BuildEvent{Target: "acme", Phase: envs.PhaseBuilt, Begins: true, Built: &envs.Built{Seconds: 5, Log: "/log"}})
	b.meter.close()
	if got := out.String(); got != "acme: built in 5.0 s; log: /log\n" {
		t.Errorf("got %q", got)
	}
}

func TestBoardJSON(t *testing.T) {
	b, out := testBoard(t, progressJSON)
	b.event(envs.BuildEvent{Target: "acme", Phase: envs.PhaseBuilding, Text: "make", Begins: true})
	b.event(envs.BuildEvent{Target: "acme", Text: "cc"})
	b.event(envs.BuildEvent{Target: "acme", Phase: envs.PhaseFailed, Begins: true, Built: &envs.Built{Error: "why"}})
	want := `{"target":"acme","phase":"building","text":"make"}` + "\n" + `{"target":"acme","phase":"failed","error":"why"}` + "\n"
	if got := out.String(); got != want {
		t.Errorf("got %q", got)
	}
}

func TestOnceEach(t *testing.T) {
	a1, a2, b := envs.Release{Target: "acme", Number: 1}, envs.Release{Target: "acme", Number: 2}, envs.Release{Target: "globex", Number: 1}
	if got, err := onceEach([]envs.Release{a1, b, a1}); err != nil || len(got) != 2 || got[0] != a1 || got[1] != b {
		t.Errorf("got %v, %v", got, err)
	}
	var usage *usageError
	if _, err := onceEach([]envs.Release{a1, b, a2}); !errors.As(err, &usage) || err.Error() != "acme@1 and acme@2 would both be built to dist/acme: name one" {
		t.Errorf("got %v", err)
	}
}
