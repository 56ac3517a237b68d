package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/snapshot"
)

// How progress is shown. auto is a bar on a terminal that can move its cursor and
// lines elsewhere.
const (
	progressAuto  = "auto"
	progressBar   = "bar"
	progressLines = "lines"
	progressJSON  = "json"
	progressNone  = "none"
)

func checkProgress(mode string) error {
	switch mode {
	case progressAuto, progressBar, progressLines, progressJSON, progressNone:
		return nil
	}
	return errors.New("it is auto, bar, lines, json or none")
}

const (
	redrawEvery = 100 * time.Millisecond
	lineEvery   = 10 * time.Second
	// Quick stages say nothing: a line for each would bury what took long.
	quick = time.Second
)

// meter shows progress on one writer. Its methods may be called from several
// goroutines at once.
type meter struct {
	mu    sync.Mutex
	w     io.Writer
	mode  string
	width func() int

	last  snapshot.Event
	begun time.Time // the stage at hand
	shown time.Time // when it was last drawn
	drawn bool      // a bar stands on the terminal
	area  int       // lines of a board that stand there
	told  bool      // the stage has had a line
}

func newMeter(w io.Writer, mode string) *meter {
	m := &meter{w: w, mode: mode, width: func() int { return 80 }}
	f, isFile := w.(*os.File)
	terminal := isFile && term.IsTerminal(int(f.Fd()))
	if terminal {
		m.width = func() int {
			if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
				return n
			}
			return 80
		}
	}
	if mode == progressAuto {
		m.mode = progressLines
		if terminal && os.Getenv("TERM") != "dumb" && os.Getenv("TERM") != "" {
			m.mode = progressBar
		}
	}
	return m
}

// event shows one event; it is a snapshot.Progress.
func (m *meter) event(e snapshot.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	switch m.mode {
	case progressNone:
		return
	case progressJSON:
		if line, err := json.Marshal(e); err == nil {
			m.write(string(line) + "\n")
		}
		return
	}
	if e.Note != "" {
		m.clear()
		m.write(clean(e.Note) + "\n")
		return
	}
	if e.Stage != m.last.Stage {
		m.endStage(now)
		m.begun, m.told = now, false
		m.shown = now.Add(-redrawEvery)
	}
	m.last = e
	switch {
	case m.mode == progressBar && now.Sub(m.shown) >= redrawEvery:
		m.draw(now)
	case m.mode == progressLines && !m.told && now.Sub(m.begun) >= quick,
		m.mode == progressLines && m.told && now.Sub(m.shown) >= lineEvery:
		m.write(m.text(now) + "\n")
		m.shown, m.told = now, true
	}
}

// close ends the last stage and leaves the terminal as it was.
func (m *meter) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mode == progressBar || m.mode == progressLines {
		m.endStage(time.Now())
	}
	m.last = snapshot.Event{}
}

// pause runs fn, which writes to the terminal, without a bar in its way.
func (m *meter) pause(fn func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clear()
	fn()
}

func (m *meter) endStage(now time.Time) {
	m.clear()
	took := now.Sub(m.begun)
	if m.mode == progressLines && m.last.Stage != "" && took >= quick {
		done := fmt.Sprintf("%.1f s", took.Seconds())
		if n := count(m.last.Done, 0, m.last.Unit); n != "" {
			done = n + " in " + done
		}
		m.write(m.last.Stage + ": " + done + "\n")
	}
}

func (m *meter) clear() {
	if m.area > 0 {
		m.write(fmt.Sprintf("\x1b[%dA\r\x1b[J", m.area))
		m.area = 0
	}
	if m.drawn {
		m.write("\r\x1b[K")
		m.drawn = false
	}
}

// write drops the error: where progress can't be shown the work goes on.
func (m *meter) write(s string) { _, _ = io.WriteString(m.w, s) }

const barWidth = 20

// draw puts the bar on the terminal's line: [####----] stage count rate item.
func (m *meter) draw(now time.Time) {
	line := m.text(now)
	if e := m.last; e.Total > 0 {
		full := int(min(e.Done, e.Total) * barWidth / e.Total)
		line = "[" + strings.Repeat("#", full) + strings.Repeat("-", barWidth-full) + "] " + line
	}
	if item := clean(m.last.Item); item != "" {
		line += "  " + item
	}
	m.write("\r" + cut(line, m.width()-1) + "\x1b[K")
	m.drawn, m.shown = true, now
}

func (m *meter) text(now time.Time) string {
	e := m.last
	s := strings.TrimSpace(e.Stage + " " + count(e.Done, e.Total, e.Unit))
	if took := now.Sub(m.begun); took >= quick && e.Done > 0 {
		rate := int64(float64(e.Done) / took.Seconds())
		if e.Unit == "bytes" {
			s += ", " + envs.Bytes(rate) + "/s"
		} else if rate > 0 {
			s += fmt.Sprintf(", %d/s", rate)
		}
	}
	return s
}

func count(done, total int64, unit string) string {
	switch {
	case done == 0 && total == 0:
		return ""
	case unit == "bytes" && total > 0:
		return envs.Bytes(done) + " of " + envs.Bytes(total)
	case unit == "bytes":
		return envs.Bytes(done)
	case total > 0:
		return strings.TrimSpace(fmt.Sprintf("%d of %d %s", done, total, unit))
	default:
		return strings.TrimSpace(fmt.Sprintf("%d %s", done, unit))
	}
}

// cut shortens s to n columns, taking each character for one.
func cut(s string, n int) string {
	if n < 1 || utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// clean makes a host's names safe for a terminal: no control character of a path
// may move the cursor or write into the clipboard.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == utf8.RuneError || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '?'
		}
		return r
	}, s)
}
