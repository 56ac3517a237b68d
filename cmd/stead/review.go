package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/snapshot"
)

// How much of a review is shown: a screenful, unless secrets take more.
const (
	maxFolders = 14
	maxSecrets = 100
	maxNeeded  = 20
)

// accept asks a person about what would leave the host, unless they said yes
// beforehand. That doesn't answer for a secret that is needed.
func accept(g *globals, w *work, yes bool) func(*envs.Review) error {
	return func(r *envs.Review) error {
		if yes {
			if open := r.Unanswered(); len(open) > 0 {
				return &envs.UnansweredError{Needed: open}
			}
			return nil
		}
		if !isTerminal(os.Stdin) || !isTerminal(g.stderr) {
			return &hintError{errors.New("taking a snapshot: nobody is there to look at what would leave the host"),
				"--yes accepts it; stead show TARGET --delta lists it afterwards"}
		}
		w.meter.close()
		printReview(g.stderr, r)
		fmt.Fprint(g.stderr, "Take these along? [y/N] ")
		line, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if answer := strings.ToLower(strings.TrimSpace(line)); err != nil || answer != "y" && answer != "yes" {
			return &hintError{errors.New("taking a snapshot: not accepted, and nothing was written"),
				"--keep PATTERN and --drop PATTERN change what comes along"}
		}
		return nil
	}
}

// printReview shows what leaves a host and what stays: what somebody has to decide on
// first, secrets one by one, everything else by folder.
func printReview(out io.Writer, r *envs.Review) {
	var open, other []envs.Needed
	for _, n := range r.Needed {
		if n.Unanswered {
			open = append(open, n)
		} else {
			other = append(other, n)
		}
	}
	printNeeded(out, "needed, and it can't leave (--keep PATH takes it along as it is, --drop PATH leaves it)", open)
	printLeft(out, "secrets, which stay", r.Secrets(), maxSecrets)
	printNeeded(out, "left behind, although the host's configuration names it (--keep PATH takes it along)", other)
	printLeft(out, "could not be read", r.Unreadable, maxNeeded)
	left, stays := r.Folders()
	printFolders(out, "leaves the host", left)
	printFolders(out, "stays", stays)
}

func printNeeded(out io.Writer, title string, all []envs.Needed) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(out, "%s: %d\n", title, len(all))
	for i, n := range all {
		if i == maxNeeded {
			fmt.Fprintf(out, "  … and %d more\n", len(all)-i)
			break
		}
		fmt.Fprintf(out, "  %s  /%s  %s; named by %s\n", size(n.Bytes, n.Files), envs.Shown(n.Path), clean(n.Reason), clean(n.By))
	}
}

func printLeft(out io.Writer, title string, all []snapshot.Left, most int) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintf(out, "%s: %d\n", title, len(all))
	var files, bytes int64
	for i, l := range all {
		if i >= most {
			files, bytes = files+l.Files, bytes+l.Bytes
			continue
		}
		fmt.Fprintf(out, "  %s  /%s  %s\n", size(l.Bytes, l.Files), envs.Shown(l.Path), clean(l.Reason))
	}
	if files > 0 {
		fmt.Fprintf(out, "  %s  elsewhere\n", size(bytes, files))
	}
}

// printFolders shows the largest, and the sum of the others.
func printFolders(out io.Writer, title string, all []envs.Folder) {
	var sum, rest envs.Folder
	for i, f := range all {
		sum.Bytes, sum.Files = sum.Bytes+f.Bytes, sum.Files+f.Files
		if i >= maxFolders {
			rest.Bytes, rest.Files = rest.Bytes+f.Bytes, rest.Files+f.Files
		}
	}
	fmt.Fprintf(out, "%s: %s in %d files\n", title, envs.Bytes(sum.Bytes), sum.Files)
	for _, f := range all[:min(len(all), maxFolders)] {
		fmt.Fprintf(out, "  %s  /%s  %s: %s\n", size(f.Bytes, f.Files), envs.Shown(f.Path), f.Action, clean(f.Reason))
	}
	if n := len(all) - maxFolders; n > 0 {
		fmt.Fprintf(out, "  %s  in %d smaller rows\n", size(rest.Bytes, rest.Files), n)
	}
}

func size(bytes, files int64) string { return fmt.Sprintf("%7s in %5d", envs.Bytes(bytes), files) }
