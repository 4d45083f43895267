-- Somebody asked another hub than the one that runs it to cancel it.
ALTER TABLE deferred_jobs ADD COLUMN cancel_asked boolean NOT NULL DEFAULT false;
