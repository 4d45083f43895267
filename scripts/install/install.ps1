# Installs the agent of GPU For Everyone for this user on Windows. Never asks for an administrator, and leaves nothing behind
# when it fails.
#
#   irm @HUB@/install.ps1 | iex
#   $env:GFE_UNINSTALL = 1; irm @HUB@/install.ps1 | iex
#
# What it checks: the SHA-256 of the program against SHA256SUMS, and the signature of SHA256SUMS (minisign's format, Ed25519)
# against the key below, with minisign or Node where one is here. Without either it says that the signature was not checked;
# $env:GFE_REQUIRE_SIGNATURE = 1 refuses then. Windows PowerShell 5.1 and later.

function Install-Gfe {
  $ErrorActionPreference = 'Stop'
  $ProgressPreference = 'SilentlyContinue'
  [Net.ServicePointManager]::SecurityProtocol = [Net.ServicePointManager]::SecurityProtocol -bor [Net.SecurityProtocolType]::Tls12

  $Key = '@RELEASE_KEY@'
  $Hub = if ($env:GFE_HUB) { $env:GFE_HUB } else { '@HUB@' }
  $From = if ($env:GFE_DOWNLOAD_FROM) { $env:GFE_DOWNLOAD_FROM } else { "$Hub/download/files" }
  $Kind = if ($env:GFE_KIND) { $env:GFE_KIND } else { 'slim' }
  $To = if ($env:GFE_INSTALL_DIR) { $env:GFE_INSTALL_DIR } else { Join-Path $env:LOCALAPPDATA 'Programs\gpu-for-everyone' }
  $Program = Join-Path $To 'gfe.exe'

  if ($env:GFE_UNINSTALL) {
    if (-not (Test-Path -LiteralPath $Program)) { throw "There is no $Program." }
    Remove-Item -LiteralPath $Program -Force
    Write-Host "Removed $Program. The agent's key and settings are where they were: gfe uninstall, before this, removes those too."
    return
  }
  if ($Kind -notin 'slim', 'full') { throw "GFE_KIND is slim or full, not $Kind." }
  if ($env:PROCESSOR_ARCHITECTURE -notin 'AMD64', 'ARM64') {
    throw "There is no agent for the processor $env:PROCESSOR_ARCHITECTURE. With Node 20 or later: npx gpu-for-everyone up"
  }
  # Windows on ARM runs programs for x64 as well.
  $Name = if ($Kind -eq 'slim') { 'gfe-agent-slim-windows-x64.exe' } else { 'gfe-windows-x64.exe' }
  $Work = Join-Path ([IO.Path]::GetTempPath()) ("gfe-" + [Guid]::NewGuid().ToString('N'))
  New-Item -ItemType Directory -Path $Work | Out-Null
  try {
    Write-Host "Getting $Name from $From ..."
    foreach ($File in 'SHA256SUMS', 'SHA256SUMS.minisig', $Name) {
      try { Invoke-WebRequest -UseBasicParsing -TimeoutSec 900 -Uri "$From/$File" -OutFile (Join-Path $Work $File) }
      catch { throw "$File could not be downloaded from $From. Is the network up, and has this hub downloads? Nothing was installed." }
    }
    $Sums = Join-Path $Work 'SHA256SUMS'
    $By = $null
    if (Get-Command minisign -ErrorAction SilentlyContinue) {
      & minisign -Vqm $Sums -P $Key | Out-Null
      if ($LASTEXITCODE -ne 0) { throw 'The signature of SHA256SUMS does not fit: this is not a release of the key that this script trusts. Nothing was installed.' }
      $By = 'minisign'
    } elseif (Get-Command node -ErrorAction SilentlyContinue) {
      $Check = Join-Path $Work 'check.cjs'
      [IO.File]::WriteAllText($Check, @'
const { createHash, createPublicKey, verify } = require("node:crypto");
const { readFileSync } = require("node:fs");
const [path, line] = process.argv.slice(2);
const [, first, trusted, second] = readFileSync(path + ".minisig", "utf8").split(/\r?\n/);
const key = Buffer.from(line, "base64");
const sig = Buffer.from(first, "base64");
const der = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), key.subarray(10)]);
const publicKey = createPublicKey({ key: der, format: "der", type: "spki" });
const hash = createHash("blake2b512").update(readFileSync(path)).digest();
const comment = Buffer.from(trusted.slice("trusted comment: ".length));
const good = sig.subarray(0, 2).toString() === "ED" && sig.subarray(2, 10).equals(key.subarray(2, 10)) &&
  verify(null, hash, publicKey, sig.subarray(10)) &&
  verify(null, Buffer.concat([sig.subarray(10), comment]), publicKey, Buffer.from(second, "base64"));
process.exit(good ? 0 : 1);
'@)
      & node $Check $Sums $Key
      if ($LASTEXITCODE -ne 0) { throw 'The signature of SHA256SUMS does not fit: this is not a release of the key that this script trusts. Nothing was installed.' }
      $By = 'Node'
    } elseif ($env:GFE_REQUIRE_SIGNATURE) {
      throw 'The signature cannot be checked here: install minisign, then run this again. Nothing was installed.'
    }
    $Fields = ((Get-Content -LiteralPath "$Sums.minisig")[2] -replace '^trusted comment: ', '') -split "`t"
    if ($By -and 'file:SHA256SUMS' -notin $Fields) { throw 'What was signed is another file than SHA256SUMS. Nothing was installed.' }
    $Expires = [long](($Fields | Where-Object { $_ -match '^expires:\d{1,12}$' }) -replace '^expires:', '')
    $Now = [long]([DateTime]::UtcNow - [DateTime]'1970-01-01').TotalSeconds
    if ($Expires -le $Now) { throw 'The signature of this release has ended: it is old, or was withdrawn. Is the clock of this machine right? Nothing was installed.' }
    $Line = Get-Content -LiteralPath $Sums | Where-Object { $_ -match "^[0-9a-f]{64}  $([Regex]::Escape($Name))$" }
    if (-not $Line) { throw "This release has no $Name. See what there is: $Hub/download" }
    $Found = (Get-FileHash -Algorithm SHA256 -LiteralPath (Join-Path $Work $Name)).Hash
    if ($Found -ne $Line.Substring(0, 64)) { throw "$Name is not what was released: it was cut off or changed on its way. Nothing was installed." }

    New-Item -ItemType Directory -Force -Path $To | Out-Null
    # A program that runs cannot be overwritten, but renamed.
    if (Test-Path -LiteralPath $Program) { Move-Item -Force -LiteralPath $Program -Destination "$Program.previous" }
    try { Copy-Item -LiteralPath (Join-Path $Work $Name) -Destination $Program }
    catch {
      Remove-Item -Force -ErrorAction SilentlyContinue -LiteralPath $Program
      if (Test-Path -LiteralPath "$Program.previous") { Move-Item -LiteralPath "$Program.previous" -Destination $Program }
      throw "$Program cannot be written: is the disk full? Give another folder in GFE_INSTALL_DIR."
    }
    $Version = (($Fields | Where-Object { $_ -match '^version:[0-9A-Za-z.-]+$' }) -replace '^version:', '')
    Write-Host "Installed $Program, version $Version."
    if ($By) { Write-Host "Checked: its SHA-256, and the signature of the release (by $By)." }
    else { Write-Host 'Checked: its SHA-256. NOT checked: the signature, for want of minisign or Node.' }
    $Path = [Environment]::GetEnvironmentVariable('Path', 'User')
    $Gfe = 'gfe'
    if (($Path -split ';') -notcontains $To) {
      $Gfe = "& '$Program'"
      Write-Host "$To is not on your Path. To add it: [Environment]::SetEnvironmentVariable('Path', `"$To;`" + [Environment]::GetEnvironmentVariable('Path', 'User'), 'User')"
    }
    Write-Host ''
    Write-Host "Next:       $Gfe up --hub $Hub"
    Write-Host "To remove:  $Gfe uninstall, then Remove-Item '$Program'"
  } finally {
    Remove-Item -Recurse -Force -ErrorAction SilentlyContinue -LiteralPath $Work
  }
}

Install-Gfe
