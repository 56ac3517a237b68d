package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/snapshot"
)

// board shows builds: on a terminal a line for each that isn't done, elsewhere a line
// when something begins or ends. It shares the meter's writer and lock.
type board struct {
	*meter
	streamed bool // what the only build's commands write is shown as it comes
	rows     []*row
	widest   int // of the targets' names, so that columns stay where they are
	ticker   *time.Ticker
	done     chan struct{}
}

// row is one target.
type row struct {
	target string
	phase  envs.Phase
	text   string
	begun  time.Time // when it was no longer waiting
	told   time.Time // when a line was written about it
}

// stillEvery is how often a line tells that a build goes on.
const stillEvery = time.Minute

// tailLines is how much of a failed build's log is shown.
const tailLines = 20

func newBoard(m *meter) *board {
	b := &board{meter: m, ticker: time.NewTicker(redrawEvery), done: make(chan struct{})}
	go func() {
		for {
			select {
			case <-b.ticker.C:
				b.mu.Lock()
				b.refresh(time.Now())
				b.mu.Unlock()
			case <-b.done:
				return
			}
		}
	}()
	return b
}

// close leaves the terminal as it was. It may be called twice.
func (b *board) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ticker.Stop()
	select {
	case <-b.done:
	default:
		close(b.done)
	}
	b.clear()
	b.rows = nil
}

func (b *board) event(e envs.BuildEvent) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mode == progressJSON {
		b.json(e)
		return
	}
	now := time.Now()
	r := b.row(e.Target)
	r.text = clean(e.Text)
	if !e.Begins {
		return
	}
	if r.begun.IsZero() && e.Phase != envs.PhaseWaiting {
		r.begun = now
	}
	r.phase = e.Phase
	if b.mode != progressNone {
		b.endStage(now) // that was in another phase
		b.last = snapshot.Event{}
	}
	if e.Built != nil {
		b.end(r, e)
		return
	}
	if b.mode == progressLines && !b.streamed && (e.Phase == envs.PhaseFetching || e.Phase == envs.PhaseBuilding) {
		b.write(fmt.Sprintf("%s: %s: %s\n", r.target, r.phase, r.text))
		r.told = now
	}
}

func (b *board) row(target string) *row {
	for _, r := range b.rows {
		if r.target == target {
			return r
		}
	}
	r := &row{target: target}
	b.widest = max(b.widest, len(target))
	b.rows = append(b.rows, r)
	return r
}

// end tells how a build ended, for good.
func (b *board) end(r *row, e envs.BuildEvent) {
	b.clear()
	rest := b.rows[:0]
	for _, other := range b.rows {
		if other != r {
			rest = append(rest, other)
		}
	}
	b.rows = rest
	if b.mode == progressNone && e.Phase != envs.PhaseFailed {
		return
	}
	took := time.Duration(e.Built.Seconds * float64(time.Second))
	switch e.Phase {
	case envs.PhaseBuilt:
		b.write(fmt.Sprintf("%s: built in %s%s; log: %s\n", e.Target, elapsed(took), verdictOf(*e.Built), e.Built.Log))
	case envs.PhaseStopped:
		b.write(fmt.Sprintf("%s: stopped after %s\n", e.Target, elapsed(took)))
	default:
		b.failed(e, took)
	}
}

// failed shows the end of the log. The command's error names it, and the way to look
// into what the build left.
func (b *board) failed(e envs.BuildEvent, took time.Duration) {
	var command *envs.BuildError
	why := ""
	if !errors.As(e.Err, &command) && e.Err != nil && !b.streamed {
		why = ": " + clean(e.Err.Error())
	}
	b.write(fmt.Sprintf("%s: failed after %s%s\n", e.Target, elapsed(took), why))
	if b.streamed || command == nil {
		return
	}
	for _, line := range tail(e.Built.Log, tailLines) {
		b.write("  | " + clean(line) + "\n")
	}
}

// refresh redraws what moves.
func (b *board) refresh(now time.Time) {
	if b.streamed || len(b.rows) == 0 {
		return
	}
	switch b.mode {
	case progressBar:
		b.clear()
		lines := b.lines(now)
		b.write(strings.Join(lines, ""))
		b.area = len(lines)
	case progressLines:
		for _, r := range b.rows {
			if r.phase != envs.PhaseWaiting && !r.told.IsZero() && now.Sub(r.told) >= stillEvery {
				b.write(fmt.Sprintf("%s: still %s, for %s: %s\n", r.target, r.phase, elapsed(now.Sub(r.begun)), r.text))
				r.told = now
			}
		}
	}
}

// lines are a terminal's, running builds first; as many as it can show.
func (b *board) lines(now time.Time) (lines []string) {
	name := b.widest
	waiting := []string{}
	for _, r := range b.rows {
		if r.phase == envs.PhaseWaiting {
			waiting = append(waiting, fmt.Sprintf("%-*s  waiting", name, r.target))
			continue
		}
		lines = append(lines, fmt.Sprintf("%-*s  %-10s %5s  %s", name, r.target, r.phase, elapsed(now.Sub(r.begun)), r.text))
	}
	lines = append(lines, waiting...)
	if most := b.height() - 1; len(lines) > most {
		lines = append(lines[:max(most-1, 0)], fmt.Sprintf("and %d more", len(lines)-max(most-1, 0)))
	}
	for i := range lines {
		lines[i] = cut(lines[i], b.width()-1) + "\n"
	}
	return lines
}

func (b *board) height() int {
	if f, ok := b.w.(*os.File); ok {
		if _, rows, err := term.GetSize(int(f.Fd())); err == nil && rows > 1 {
			return rows
		}
	}
	return 24
}

// json tells programs of what begins and ends.
func (b *board) json(e envs.BuildEvent) {
	if !e.Begins {
		return
	}
	line := struct {
		Target string `json:"target"`
		Phase  string `json:"phase"`
		Text   string `json:"text,omitempty"`
		Error  string `json:"error,omitempty"`
	}{Target: e.Target, Phase: string(e.Phase), Text: e.Text}
	if e.Built != nil {
		line.Error = e.Built.Error
	}
	if text, err := json.Marshal(line); err == nil {
		b.write(string(text) + "\n")
	}
}

// elapsed is a duration for people.
func elapsed(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	d = d.Round(time.Second)
	return fmt.Sprintf("%d:%02d min", int(d.Minutes()), int(d.Seconds())%60)
}

// tail are the last lines of a file.
func tail(name string, lines int) []string {
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	const most = 16 << 10
	fi, err := f.Stat()
	if err != nil {
		return nil
	}
	buf := make([]byte, min(fi.Size(), most))
	n, _ := f.ReadAt(buf, fi.Size()-int64(len(buf)))
	list := strings.Split(string(bytes.TrimRight(buf[:n], "\n")), "\n")
	if fi.Size() > most && len(list) > 1 {
		list = list[1:] // the first is cut
	}
	return list[max(len(list)-lines, 0):]
}
