// The forge of the Gitea project, with what tests need of it: its API, Git over HTTP, and SQLite without a C compiler.
package main

import (
	"database/sql"
	"database/sql/driver"
	"os"
	"strings"
	"time"

	"code.gitea.io/gitea/cmd"
	"code.gitea.io/gitea/modules/setting"
	"modernc.org/sqlite"
)

// The address that Gitea gives is for another driver, and asks for a cache that is shared: there, a connection that
// finds a table locked fails at once instead of waiting. https://www.sqlite.org/sharedcache.html
type waiting struct{ sqlite.Driver }

func (w *waiting) Open(address string) (driver.Conn, error) {
	return w.Driver.Open(strings.Replace(address, "cache=shared",
		"_pragma=busy_timeout(20000)&_pragma=journal_mode(WAL)", 1))
}

func init() {
	sql.Register("sqlite3", &waiting{})
	setting.EnableSQLite3 = true
	setting.SupportedDatabaseTypes = append(setting.SupportedDatabaseTypes, "sqlite3")
	setting.AppVer = "1.26.0"
	setting.AppStartTime = time.Now().UTC()
}

func main() {
	if err := cmd.RunMainApp(cmd.NewMainApp(cmd.AppVersion{Version: setting.AppVer}), os.Args...); err != nil {
		os.Exit(1)
	}
}
