package envs

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"testing"

	"github.com/stead-env/stead/envs/image"
	"github.com/stead-env/stead/snapshot"
)

func TestReviewComesBack(t *testing.T) {
	r := &Review{
		Decisions: []image.Decision{{Path: "opt/caf\xe9", Action: image.Kept, Class: snapshot.Made, Size: 3, SHA256: "ab"}, {Path: "opt/two\nlines"}},
		Left:      []snapshot.Left{{Path: "srv", Class: snapshot.State, Files: 2, Bytes: 7}},
		Needed:    []Needed{{Path: "srv/x", By: "unit x.service", Unanswered: true}},
	}
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	got, err := readReview(json.NewDecoder(&b))
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestMentions(t *testing.T) {
	for _, c := range []struct {
		path, text string
		files      map[string]string
		folders    map[string]string
	}{
		{"etc/systemd/system/a.service", "[Service]\n# ExecStart=/no\nExecStart=-/srv/a/run --config=/data/a.conf \"/data/with\" $X %h/x\n" +
			"EnvironmentFile=-/etc/default/a\nLoadCredential=key:/etc/a/key\nExecReload=/bin/kill -HUP $MAINPID\nUser=/no\n",
			map[string]string{"srv/a/run": "unit a.service", "data/a.conf": "unit a.service", "data/with": "unit a.service",
				"etc/default/a": "unit a.service", "etc/a/key": "unit a.service", "bin/kill": "unit a.service"}, nil},
		{"lib/systemd/system/b.service.d/x.conf", "ExecStart=\nExecStart=@/srv/b b0\n", map[string]string{"srv/b": "unit b.service"}, nil},
		{"etc/login.defs", "# ENV_PATH PATH=/no\nENV_SUPATH\tPATH=/usr/sbin:/data/sbin\n", nil,
			map[string]string{"usr/sbin": "PATH of /etc/login.defs", "data/sbin": "PATH of /etc/login.defs"}},
		{"etc/environment", "PATH=\"/usr/bin:relative:/data/bin\"\n", nil,
			map[string]string{"usr/bin": "PATH of /etc/environment", "data/bin": "PATH of /etc/environment"}},
		{"etc/ld.so.conf.d/x.conf", "# no\n/data/lib\ninclude /etc/other/*.conf\n", nil, map[string]string{"data/lib": "/etc/ld.so.conf.d/x.conf"}},
		{"etc/ld.so.cache", "glibc-ld.so.cache1.1\x00\x01libx.so.1\x00/data/lib/libx.so.1\x00", map[string]string{"data/lib/libx.so.1": "/etc/ld.so.cache"}, nil},
	} {
		m := &mentions{files: map[string]string{}, folders: map[string]string{}}
		reader(c.path)(m, c.path, []byte(c.text))
		if !maps.Equal(m.files, c.files) || !maps.Equal(m.folders, c.folders) {
			t.Errorf("%s names %q and %q", c.path, m.files, m.folders)
		}
	}
	if reader("etc/hosts") != nil || reader("opt/x.service") != nil {
		t.Error("other files are read")
	}
}

func FuzzMentions(f *testing.F) {
	f.Add("ExecStart=/a --b=/c\nPATH=/x:/y\n/lib\x00/z\x00")
	f.Fuzz(func(t *testing.T, text string) {
		for _, p := range []string{"etc/systemd/system/a.service", "etc/login.defs", "etc/ld.so.conf", "etc/ld.so.cache"} {
			m := &mentions{files: map[string]string{}, folders: map[string]string{}}
			reader(p)(m, p, []byte(text))
			for _, all := range []map[string]string{m.files, m.folders} {
				for name := range all {
					if name == "" || name[0] == '/' {
						t.Errorf("%q is named", name)
					}
				}
			}
		}
	})
}

func TestShown(t *testing.T) {
	for path, want := range map[string]string{"a b/é": "a b/é", "two\nlines": `two\x0alines`, "caf\xe9": `caf\xe9`, `a\b`: `a\\b`, "\u202ex": `\xe2\x80\xaex`} {
		if got := Shown(path); got != want {
			t.Errorf("%q is shown as %q, want %q", path, got, want)
		}
	}
}
