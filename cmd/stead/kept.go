package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/runtime"
)

// addSession adds --session.
func addSession(g *globals, cmd *cobra.Command, name *string) {
	const flag = "session"
	cmd.Flags().Var((*sessionName)(name), flag, "keep what is changed inside under this name, or go on with the session of that name")
	err := cmd.RegisterFlagCompletionFunc(flag, g.completeSessions)
	if err != nil {
		panic(err) // there is no such flag
	}
}

// sessionName is a flag that can't be empty: a variable that isn't set in a script must
// not mean that nothing is kept.
type sessionName string

func (n *sessionName) String() string { return string(*n) }
func (n *sessionName) Type() string   { return "string" }
func (n *sessionName) Set(text string) error {
	if text == "" {
		return errors.New("it is empty")
	}
	*n = sessionName(text)
	return nil
}

// keptSession is the session that --session names; nil without one.
type keptSession struct {
	*envs.Kept
	ran bool // something was started in it
}

// holdKept takes the session of that name, if there is one.
func holdKept(w *work, name string) (*keptSession, error) {
	if name == "" {
		return nil, nil
	}
	kept, err := envs.HoldKept(w.config.Store, name)
	if err != nil {
		return nil, asUsage(err)
	}
	return &keptSession{Kept: kept}, nil
}

// engine is the one that the session goes on with, unless another is asked for.
func (k *keptSession) engine(asked string) string {
	if k == nil || asked != "" {
		return asked
	}
	return k.Engine()
}

// upper is where the session's changes are kept; "" where they aren't.
func (k *keptSession) upper() string {
	if k == nil {
		return ""
	}
	return k.Upper()
}

// use notes that the session is about to be entered.
func (k *keptSession) use(root *envs.Root, engine runtime.Engine, tools envs.AddedTools) error {
	if k == nil {
		return nil
	}
	return k.Use(root.Release, engine.Name(), tools)
}

func (k *keptSession) started() {
	if k != nil {
		k.ran = true
	}
}

func (k *keptSession) letGo(g *globals) {
	if k == nil {
		return
	}
	if err := k.Close(k.ran); err != nil {
		fmt.Fprintf(g.stderr, "closing session %s: %v\n", k.Name, err)
	}
}

// sessionRelease is the release of a session: the one that it was begun on, or else the
// one that target names.
func sessionRelease(g *globals, w *work, f sessionFlags, target []string, kept *keptSession) (envs.Release, error) {
	if kept != nil && !kept.New {
		refs, err := w.project.Wanted(target)
		if err != nil {
			return envs.Release{}, asUsage(err)
		}
		var ref envs.Ref
		if len(target) > 0 {
			ref = refs[0]
		}
		note, err := kept.Continue(w.fleet, ref)
		if note != "" {
			w.meter.pause(func() { fmt.Fprintln(g.stderr, note) })
		}
		return kept.Release(), err
	}
	releases, err := w.releases(target, f.locked)
	if err != nil {
		return envs.Release{}, err
	}
	if len(releases) != 1 {
		var names []string
		for _, r := range releases {
			names = append(names, r.Target)
		}
		return envs.Release{}, usagef("the project has several targets, name one: %s", strings.Join(names, ", "))
	}
	return releases[0], nil
}

// completeSessions offers the names of the store's sessions to a shell.
func (g *globals) completeSessions(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	w, err := g.open(true)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names, err := envs.KeptNames(w.config.Store)
	if err := errors.Join(err, w.close()); err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
