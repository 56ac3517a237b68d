package scrub

import "testing"

func TestContentAcrossLines(t *testing.T) {
	const pw = "q7" + "Rk2" + "vXw9tt"
	const token = "q7Rk2vXw9tt" + "A1b2C3d4E5"
	for _, c := range []struct{ path, content string }{
		{"opt/x/fetch", "machine h.example\nlogin l\npassword " + pw + "\n"},
		{"etc/x.conf", "# to fetch with\nmachine h.example login l\n\tpassword " + pw + "\n"},
		{"etc/x.conf", "default\n  login l\n  account a\n  password " + pw + "\n"},
		{"etc/x.conf", "url = https://" + token + "@git.example/x\n"},
		{"etc/x.conf", "url = https://" + token + ":@git.example/x\n"},
		{"opt/x/README.txt", "git clone https://" + token + ":x-oauth-basic@git.example/x\n"},
		{"etc/apt/sources.list", "deb https://masked-by-steadmasked@mirror.example/x stable main\n"},
		{"etc/systemd/system/x.service", "[Service]\nSetCredential=db:" + pw + "\n"},
		{"etc/x.yaml", "env:\n- name: DB_PASSWORD\n  value: " + pw + "\n"},
		{"etc/x.yaml", "env:\n- name: \"DB_PASSWORD\"\n\n  value: \"" + pw + "\"\n"},
		{"etc/x.json", `{"name":"DB_PASSWORD","value":"` + pw + `"}`},
		{"etc/x.json", "{\n  \"name\": \"API_KEY\",\n  \"value\": \"" + pw + "\"\n}"},
		{"etc/x.conf", "X-Vault-Token: " + pw + "\n"},
		{"usr/local/bin/x", "curl -H \"X-Vault-Token: " + pw + "\" https://h.example/v1 -o x\n"},
		{"opt/x/get.py", "get(u, headers={'PRIVATE-TOKEN': '" + token + "'}, t=1)\n"},
		{"usr/local/bin/x", "curl -s -H 'PRIVATE-TOKEN: " + token + "' https://h.example/ -o x\n"},
		{"usr/local/bin/x", "curl -s -H 'Authorization: Token " + token + "' https://h.example/ -o x\n"},
	} {
		if check(t, c.path, c.content) == "" {
			t.Errorf("nothing is found in %s:\n%s", c.path, c.content)
		}
	}
	for _, c := range []struct{ path, content string }{
		{"etc/x.conf", "machine h.example\nlogin l\npassword $PW\n"},
		{"etc/x.conf", "a machine\nlogin and\npassword prompts\n"},
		{"etc/x.conf", "url = https://deploy-account-example@git.example/x\nsee https://code.example/@scope/name1234567890abc@2\n"},
		{"etc/systemd/system/x.service", "[Service]\nSetCredential=db:%d/db\nLoadCredential=db:/etc/db\n"},
		{"etc/x.yaml", "- name: DB_PASSWORD\n  valueFrom:\n    secretKeyRef: {name: db, key: password}\n- name: DB_USER\n  value: " + pw + "\n"},
		{"etc/x.yaml", "- name: DB_PASSWORD\n  value: ${DB_PASSWORD}\n- name: X_TOKEN\n  value: $(params.token)\n"},
		{"etc/x.json", `{"name":"token","type":"string","value":"` + pw + `"}`},
		{"usr/local/bin/x", "curl -H \"X-Vault-Token: $T\" -H 'Authorization: token authentication' -H 'PRIVATE-TOKEN: your-token-here' u\n"},
	} {
		if reason := check(t, c.path, c.content); reason != "" {
			t.Errorf("%s is taken for %s:\n%s", c.path, reason, c.content)
		}
	}
}
