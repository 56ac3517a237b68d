package main

import (
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/artifact"
)

// verdictOf is what the artifacts of a build come to, for the end of a line; "" where
// nothing was judged.
func verdictOf(b envs.Built) string {
	n := map[artifact.Verdict]int{}
	for _, a := range b.Answers {
		n[a.Verdict]++
	}
	all, fails, unproven := len(b.Answers), n[artifact.Fails], n[artifact.Unproven]
	switch {
	case all == 0:
		return ""
	case fails > 0 && all == 1:
		return "; it won't start there"
	case fails > 0:
		return fmt.Sprintf("; %d of %d won't start there", fails, all)
	case unproven > 0 && all == 1:
		return "; whether it starts there is unproven"
	case unproven > 0:
		return fmt.Sprintf("; whether %d of %d start there is unproven", unproven, all)
	case all == 1:
		return "; it starts there"
	default:
		return "; they start there"
	}
}

// printVerdict tells why artifacts won't start, and what the trial came to.
func (g *globals) printVerdict(b envs.Built) {
	name := fmt.Sprintf("%s@%d", b.Target, b.Release)
	c := &envs.Checked{}
	for _, a := range b.Answers {
		a.File = path.Join("dist", b.Target, a.File)
		c.Answers = append(c.Answers, a)
	}
	var text strings.Builder
	tellWhy(&text, c, name, false)
	io.WriteString(g.stdout, strings.TrimPrefix(text.String(), "\n")) //nolint:errcheck // as all that is printed
	if t := b.Trial; t != nil && !t.OK() {
		fmt.Fprintf(g.stdout, "%s: its trial failed: %s; its output is in %s\n", name, clean(t.Problem()), t.Log)
		for _, line := range tail(t.Log, trialLines) {
			fmt.Fprintf(g.stdout, "  | %s\n", clean(line))
		}
	}
}

// trialLines is how much of what a failed trial wrote is shown.
const trialLines = 5
