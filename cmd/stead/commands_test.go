package main

import "testing"

// A command is found by the name in the table, and is the same alone.
func TestCommandNames(t *testing.T) {
	for _, c := range commands {
		if name := c.make(&globals{}).Name(); name != c.name {
			t.Errorf("%s is listed as %s", name, c.name)
		}
		root := newRoot(&globals{}, []string{c.name, "x"})
		if cmd, _, err := root.Find([]string{c.name}); err != nil || cmd.Name() != c.name || len(root.Commands()) != 1 {
			t.Errorf("%s: %v, beside %d", c.name, err, len(root.Commands())-1)
		}
	}
	if got := len(newRoot(&globals{}, []string{"help", "run"}).Commands()); got != len(commands) {
		t.Errorf("%d commands of %d", got, len(commands))
	}
}
