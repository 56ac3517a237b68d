package toolstest

import (
	"testing"

	"github.com/stead-env/stead/runtime"
	"github.com/stead-env/stead/runtime/chroot"
	"github.com/stead-env/stead/runtime/containerd"
	"github.com/stead-env/stead/runtime/containerd/containerdtest"
)

// TestEngines installs the same tools with each engine, and works with what came of it.
func TestEngines(t *testing.T) {
	w := newWorld(t)
	tools, err := w.make(w.busy()...)
	if err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func() runtime.Engine{
		"chroot": func() runtime.Engine { return chroot.New() },
		"containerd": func() runtime.Engine {
			containerdtest.Start(t)
			return containerd.New(containerd.Options{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			other := newWorld(t)
			other.engine = make()
			made, err := other.make(other.busy()...)
			if err != nil {
				t.Fatal(err)
			}
			if made.Digest != tools.Digest {
				t.Errorf("it made %+v instead of %+v\n%s", made, tools, other.notes)
			}
			layer := other.layer(made)
			if got := other.must(layer, "busy; cat /usr/lib/made/file; dpkg-query -W -f '${Version}\n' busy nano; stat -c %U:%G /usr/lib/closed"); got != "busy\nmade\n1.0-1\n5.4-2+deb11u3\nroot:staff\n" {
				t.Errorf("got %q", got)
			}
		})
	}
}
