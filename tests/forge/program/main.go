// The forge of the Gitea project, with what tests need of it: its API, Git over HTTP, and SQLite without a C compiler.
package main

import (
	"database/sql"
	"os"
	"time"

	"code.gitea.io/gitea/cmd"
	"code.gitea.io/gitea/modules/setting"
	"modernc.org/sqlite"
)

func init() {
	sql.Register("sqlite3", &sqlite.Driver{})
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
