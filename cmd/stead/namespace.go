package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/runtime/rootless"
)

// inNamespace are the commands for which an ordinary user's process needs a user
// namespace: those that make, compare or remove trees with the owners that a host's
// files have, and those that start sessions.
var inNamespace = map[string]func(g *globals, args []string) bool{
	"pull": always, "enter": always, "run": always, "build": always, "update": always, "tools": always, "fsck": always, "gc": always, "sessions": always,
	"doctor-tries": always,
	"snapshot":     readsNoOwners,
}

func always(*globals, []string) bool { return true }

// readsNoOwners reports whether a snapshot's host is a list, an archive or a session.
// In a user namespace the files of this machine have other owners, sudo makes nobody
// root, and ssh mistrusts the system's configuration.
func readsNoOwners(g *globals, args []string) bool {
	address := args[0]
	if len(args) == 1 {
		w, err := g.open(false)
		if err != nil {
			return false // as the command will say
		}
		known, err := w.fleet.Target(args[0])
		if err != nil {
			return false
		}
		address = known.Host
	}
	return !isFolder(address) && !strings.HasPrefix(address, "ssh:")
}

// namespace gives an ordinary user's command a user namespace. Where that can't be
// had the command goes on without: what can't be done then says so itself.
func (g *globals) namespace(cmd *cobra.Command, args []string) error {
	inside, alone, err := rootless.Await()
	if inside || err != nil {
		g.alone = alone
		return err
	}
	for cmd.HasParent() && cmd.Parent().HasParent() {
		cmd = cmd.Parent() // of sessions rm, sessions counts
	}
	needs := inNamespace[cmd.Name()]
	if needs == nil || !rootless.Needed() || !needs(g, args) {
		return nil
	}
	dir, err := envs.StoreDir()
	if err != nil {
		return err
	}
	code, err := rootless.Enter(rootless.Find(dir))
	if err != nil {
		g.noNamespace = err
		return nil
	}
	return exitCode(code)
}

// aloneKey is where the store keeps that the user was told about having one id.
const aloneKey = "one-id"

// tellAlone says why the user's own ids are the only ones inside, once.
func (g *globals) tellAlone(s *store.Store) error {
	if g.alone == "" {
		return nil
	}
	if told, err := s.Recall(aloneKey); err == nil && told == g.alone {
		return nil
	}
	fmt.Fprintf(g.stderr, "note: all files in envs are yours, and there is no user in them but you and root: %s\n", clean(g.alone))
	return s.Remember(aloneKey, g.alone)
}
