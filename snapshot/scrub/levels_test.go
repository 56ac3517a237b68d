package scrub

import (
	"testing"

	"github.com/stead-env/stead/snapshot"
)

func TestLevels(t *testing.T) {
	standard := rules(t, []string{"/etc/app/site.conf"}, nil)
	at := map[Level]*Rules{Standard: standard}
	for _, level := range []Level{Minimal, Index} {
		r, err := standard.At(level)
		if err != nil {
			t.Fatal(err)
		}
		if at[level] = r; r.Version() == standard.Version() {
			t.Errorf("%s has the version of standard", level)
		}
	}
	for _, c := range []struct {
		path           string
		t              snapshot.Type
		minimal, index snapshot.Class
	}{
		{"usr/lib/x86_64-linux-gnu/libx.so", f, "", snapshot.Noise}, {"opt/app/v2/lib/libx.so.1", f, "", snapshot.Noise},
		{"opt/app/include/x.h", f, "", snapshot.Noise}, {"etc/ld.so.conf", f, "", snapshot.Noise}, {"var/lib/dpkg/status", f, "", snapshot.Noise},
		{"etc/app/app.conf", f, snapshot.Noise, snapshot.Noise}, {"usr/local/bin/app", f, snapshot.Noise, snapshot.Noise},
		{"etc/app/site.conf", f, "", snapshot.Noise}, {"usr/bin/awk", l, "", ""}, {"etc/app", d, "", ""},
		{"usr/lib/x/.netrc", f, snapshot.Secret, snapshot.Secret}, {"etc/passwd", f, "", snapshot.Noise},
	} {
		for level, want := range map[Level]snapshot.Class{Minimal: c.minimal, Index: c.index} {
			if got, reason := at[level].Path(c.path, c.t); got != want {
				t.Errorf("at %s %s is %q (%s), want %q", level, c.path, got, reason, want)
			}
		}
	}
	if _, err := standard.At("all"); err == nil {
		t.Error("an unknown level is taken")
	}
}
