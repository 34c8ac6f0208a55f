"""The run database: where it is, its tables and migrations, and how journals become rows."""
