package main

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stead-env/stead/snapshot"
)

func TestMeterModes(t *testing.T) {
	fetch := snapshot.Event{Stage: "fetching", Item: "bash", Done: 50, Total: 100, Unit: "bytes"}
	note := snapshot.Event{Stage: "fetching", Note: "trying another mirror\x1b[2J"}
	for mode, want := range map[string]string{
		progressBar:   "\r[##########----------] fetching 50 B of 100 B  bash\x1b[K\r\x1b[Ktrying another mirror?[2J\n",
		progressLines: "trying another mirror?[2J\n",
		progressJSON: `{"stage":"fetching","item":"bash","done":50,"total":100,"unit":"bytes"}` + "\n" +
			`{"stage":"fetching","done":0,"note":"trying another mirror\u001b[2J"}` + "\n",
		progressNone: "",
	} {
		var out bytes.Buffer
		m := newMeter(&out, mode)
		m.event(fetch)
		m.event(note)
		m.close()
		if out.String() != want {
			t.Errorf("%s: got %q, want %q", mode, out.String(), want)
		}
	}
}

func TestMeterLines(t *testing.T) {
	var out bytes.Buffer
	m := newMeter(&out, progressAuto)
	if m.mode != progressLines {
		t.Fatalf("%s on a pipe", m.mode)
	}
	// The clock is the meter's own: what took long began long ago.
	m.event(snapshot.Event{Stage: "unpacking", Done: 1, Total: 9, Unit: "packages"})
	m.begun = m.begun.Add(-2 * time.Second)
	m.event(snapshot.Event{Stage: "unpacking", Done: 4, Total: 9, Unit: "packages"})
	m.event(snapshot.Event{Stage: "unpacking", Done: 9, Total: 9, Unit: "packages"})
	m.event(snapshot.Event{Stage: "linking"})
	m.begun = m.begun.Add(-2 * time.Second)
	m.close()
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[0], "unpacking 4 of 9 packages, ") || !strings.HasPrefix(lines[1], "unpacking: 9 packages in 2") ||
		!strings.HasPrefix(lines[2], "linking: 2") {
		t.Errorf("got %q", lines)
	}
}

func TestMeterBarFits(t *testing.T) {
	var out bytes.Buffer
	m := newMeter(&out, progressBar)
	m.width = func() int { return 30 }
	m.event(snapshot.Event{Stage: "listing", Item: strings.Repeat("é", 200), Done: 1 << 40, Total: 1, Unit: "files"})
	for line := range strings.SplitSeq(out.String(), "\r") {
		if n := len([]rune(strings.TrimSuffix(line, "\x1b[K"))); n > 29 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	m.close()
	if !strings.HasSuffix(out.String(), "\r\x1b[K") {
		t.Errorf("the bar stays: %q", out.String())
	}
}

func TestMeterFromManySides(t *testing.T) {
	m := newMeter(&bytes.Buffer{}, progressBar)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 100 {
				m.event(snapshot.Event{Stage: string(rune('a' + i%2)), Done: int64(i), Total: 8})
			}
		})
	}
	wg.Wait()
	m.close()
}
