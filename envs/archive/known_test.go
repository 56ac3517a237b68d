package archive

import (
	"reflect"
	"strings"
	"testing"
)

// What a machine's apt knows is read from its files, with what its indexes say that
// they are.
func TestReadKnown(t *testing.T) {
	r := newRepo(t, newKey(t, 0), bash)
	h := newHost(t)
	h.write(t, "etc/apt/sources.list", []byte("deb http://user:pa55@mirror.example/debian/ bullseye main contrib\n"))
	h.write(t, "etc/apt/sources.list.d/other.sources", []byte("Types: deb\nURIs: https://other.example/x\nSuites: stable\nComponents: main\n"))
	h.write(t, "var/lib/apt/lists/mirror.example_debian_dists_bullseye_InRelease", r.files["dists/bullseye/InRelease"])
	known, err := ReadKnown(t.Context(), h, "amd64")
	want := []Known{{"http://mirror.example/debian", "bullseye", []string{"main", "contrib"}, "Debian"},
		{"https://other.example/x", "stable", []string{"main"}, ""}}
	if err != nil || !reflect.DeepEqual(known, want) {
		t.Errorf("got %+v, %v", known, err)
	}
}

// A want without a version gets all that there are.
func TestLocateAnyVersion(t *testing.T) {
	key := newKey(t, 0)
	newer := newDeb("bash", "5.2-1", "amd64")
	srv := serve(t, newRepo(t, key, bash, newer, tzdata).files)
	var n notes
	res := locate(t, Debian{Host: hostWith(t, srv.URL+"/debian/", key), Store: newStore(t), Fetch: quick(&n)},
		Want{"bash", "", "amd64"}, Want{"tzdata", "", "amd64"})
	var got []string
	for _, c := range res.Candidates {
		got = append(got, c.Name+" "+c.Version)
	}
	if s := strings.Join(got, ", "); s != "bash 5.1-2+deb11u1, bash 5.2-1" {
		t.Errorf("got %s", s)
	}
}
