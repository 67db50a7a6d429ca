//! Every statement over devices. What changes one tells all replicas by the thumbprints that it is
//! known by.

use picket_model::device::DeviceState;
use picket_model::device_thumbprint::DeviceThumbprint;
use picket_state::devices::{
    ChallengeDigest, Device, DeviceId, DeviceUpdate, NewDevice, OsName, OsVersion, PendingEnrollment, Posture,
};
use picket_state::{ListFilter, PrincipalId, StorageError};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, Transaction};

use super::backend;
use super::schema::get;
use super::statements::{query, write_rows};

type Result<T> = std::result::Result<T, StorageError>;
type Parameter<'a> = &'a (dyn ToSql + Sync);

const COLUMNS: &str = "id, owner, issuer, subject, tenant, label, state, enrolled_us, changed_us, os, os_version, \
                       is_disk_encrypted, is_managed, failures, reported_us, reporter, \
                       ARRAY(SELECT thumbprint FROM picket.device_thumbprint WHERE device = device.id)";
/// Two that are enrolled at once are counted one after the other.
const ENROLLMENT_LOCK: i64 = 0x5069_6b73_6465_7669;

pub(super) async fn device(client: &Client, id: DeviceId) -> Result<Option<Device>> {
    let rows = query(
        client,
        &format!("SELECT {COLUMNS} FROM picket.device WHERE id = $1"),
        &[(&id.as_bytes(), Type::BYTEA)],
    )
    .await?;
    rows.first().map(read_device).transpose()
}

pub(super) async fn device_of(client: &Client, thumbprint: DeviceThumbprint) -> Result<Option<Device>> {
    let rows = query(
        client,
        &format!(
            "SELECT {COLUMNS} FROM picket.device
             WHERE id = (SELECT device FROM picket.device_thumbprint WHERE thumbprint = $1)"
        ),
        &[(&thumbprint.to_bytes(), Type::BYTEA)],
    )
    .await?;
    rows.first().map(read_device).transpose()
}

pub(super) async fn devices(
    client: &Client,
    filter: &ListFilter,
    after: Option<DeviceId>,
    count_max: u32,
) -> Result<Vec<Device>> {
    // Every id is greater than no bytes.
    let after = after.as_ref().map_or(&[][..], DeviceId::as_bytes);
    let count_max = i64::from(count_max);
    let select =
        |condition: &str| format!("SELECT {COLUMNS} FROM picket.device WHERE {condition}id > $1 ORDER BY id LIMIT $2");
    let (after, count) = (
        (&after as Parameter<'_>, Type::BYTEA),
        (&count_max as Parameter<'_>, Type::INT8),
    );
    let rows = match filter {
        ListFilter::All => query(client, &select(""), &[after, count]).await,
        ListFilter::Principal(owner) => {
            let owner = owner.as_bytes();
            let parameters = [after, count, (&owner as Parameter<'_>, Type::BYTEA)];
            query(client, &select("owner = $3 AND "), &parameters).await
        }
        ListFilter::Tenant(tenant) => {
            let parameters = [after, count, (tenant as Parameter<'_>, Type::TEXT)];
            query(client, &select("tenant = $3 AND "), &parameters).await
        }
    }?;
    rows.iter().map(read_device).collect()
}

pub(super) async fn begin_enrollment(
    client: &Client,
    enrollment: &PendingEnrollment,
    now_us: i64,
    count_max: u32,
) -> Result<bool> {
    let rows = query(
        client,
        "WITH ended AS (DELETE FROM picket.enrollment WHERE ends_us <= $1)
         INSERT INTO picket.enrollment (challenge, owner, issuer, subject, tenant, label, ends_us, caller)
         SELECT $2, $3, $4, $5, $6, $7, $8, $9
         WHERE (SELECT count(*) FROM picket.enrollment WHERE ends_us > $1) < $10 RETURNING 1",
        &[
            (&now_us, Type::INT8),
            (&enrollment.challenge.as_bytes(), Type::BYTEA),
            (&enrollment.owner.as_bytes(), Type::BYTEA),
            (&enrollment.issuer, Type::TEXT),
            (&enrollment.subject, Type::TEXT),
            (&enrollment.tenant, Type::TEXT),
            (&enrollment.label, Type::TEXT),
            (&enrollment.ends_us, Type::INT8),
            (&enrollment.caller, Type::TEXT),
            (&i64::from(count_max), Type::INT8),
        ],
    )
    .await?;
    Ok(!rows.is_empty())
}

pub(super) async fn enroll(client: &mut Client, new: &NewDevice) -> Result<DeviceUpdate> {
    let transaction = client.transaction().await.map_err(backend)?;
    run(&transaction, "SELECT pg_advisory_xact_lock($1)", &[&ENROLLMENT_LOCK]).await?;
    // Where anything is in the way, the transaction is given up, and the challenge waits on.
    let answered = transaction
        .query_opt(
            "DELETE FROM picket.enrollment WHERE challenge = $1 AND ends_us > $2
             RETURNING challenge, owner, issuer, subject, tenant, label, ends_us, caller",
            &[&new.challenge.as_bytes(), &new.now_us],
        )
        .await
        .map_err(backend)?;
    let Some(answered) = answered else {
        return Ok(DeviceUpdate::Missing);
    };
    if owner_of(&transaction, new.thumbprint).await?.is_some() {
        return Ok(DeviceUpdate::Taken);
    }
    let held = transaction
        .query_one("SELECT count(*) FROM picket.device", &[])
        .await
        .map_err(backend)?;
    if u64::try_from(get::<i64>(&held, 0)?).unwrap_or(u64::MAX) >= new.devices_max {
        return Ok(DeviceUpdate::TooMany);
    }
    let device = Device::enrolled(read_enrollment(&answered)?, new);
    write_row(
        &transaction,
        "INSERT INTO picket.device (id, owner, issuer, subject, tenant, label, state, enrolled_us, changed_us)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        &[
            &device.id.as_bytes(),
            &device.owner.as_bytes(),
            &device.issuer,
            &device.subject,
            &device.tenant,
            &device.label,
            &device.state.as_str(),
            &device.enrolled_us,
            &device.changed_us,
        ],
    )
    .await?;
    if insert_thumbprint(&transaction, device.id, new.thumbprint).await? == 0 {
        return Ok(DeviceUpdate::Taken);
    }
    commit(transaction, device, None).await
}

pub(super) async fn set_state(
    client: &mut Client,
    id: DeviceId,
    state: DeviceState,
    now_us: i64,
) -> Result<DeviceUpdate> {
    let transaction = client.transaction().await.map_err(backend)?;
    let device = match locked(&transaction, id)
        .await?
        .map(|device| device.check_state_change(state))
    {
        None => return Ok(DeviceUpdate::Missing),
        Some(Err(instead)) => return Ok(instead),
        Some(Ok(device)) => device,
    };
    write_row(
        &transaction,
        "UPDATE picket.device SET state = $1, changed_us = $2 WHERE id = $3",
        &[&state.as_str(), &now_us, &id.as_bytes()],
    )
    .await?;
    let device = Device {
        state,
        changed_us: now_us,
        ..device
    };
    commit(transaction, device, None).await
}

pub(super) async fn report(client: &mut Client, id: DeviceId, posture: &Posture) -> Result<DeviceUpdate> {
    let transaction = client.transaction().await.map_err(backend)?;
    let Some(device) = locked(&transaction, id).await? else {
        return Ok(DeviceUpdate::Missing);
    };
    write_row(
        &transaction,
        "UPDATE picket.device SET os = $1, os_version = $2, is_disk_encrypted = $3, is_managed = $4, failures = $5,
             reported_us = $6, reporter = $7
         WHERE id = $8",
        &[
            &posture.os.as_str(),
            &posture.os_version.to_string(),
            &posture.is_disk_encrypted,
            &posture.is_managed,
            &i32::from(posture.failures),
            &posture.reported_us,
            &posture.reporter,
            &id.as_bytes(),
        ],
    )
    .await?;
    let device = Device {
        posture: Some(posture.clone()),
        ..device
    };
    commit(transaction, device, None).await
}

pub(super) async fn add_thumbprint(
    client: &mut Client,
    id: DeviceId,
    thumbprint: DeviceThumbprint,
    now_us: i64,
) -> Result<DeviceUpdate> {
    let transaction = client.transaction().await.map_err(backend)?;
    let Some(device) = locked(&transaction, id).await? else {
        return Ok(DeviceUpdate::Missing);
    };
    let owner = owner_of(&transaction, thumbprint).await?;
    let mut device = match device.check_thumbprint_addition(owner) {
        Ok(device) => device,
        Err(instead) => return Ok(instead),
    };
    if insert_thumbprint(&transaction, id, thumbprint).await? == 0 {
        return Ok(DeviceUpdate::Taken);
    }
    device.thumbprints.push(thumbprint);
    device.thumbprints.sort_unstable();
    touch(&transaction, &mut device, now_us).await?;
    commit(transaction, device, None).await
}

pub(super) async fn remove_thumbprint(
    client: &mut Client,
    id: DeviceId,
    thumbprint: DeviceThumbprint,
    now_us: i64,
) -> Result<DeviceUpdate> {
    let transaction = client.transaction().await.map_err(backend)?;
    let Some(device) = locked(&transaction, id).await? else {
        return Ok(DeviceUpdate::Missing);
    };
    let mut device = match device.check_thumbprint_removal(thumbprint) {
        Ok(device) => device,
        Err(instead) => return Ok(instead),
    };
    write_row(
        &transaction,
        "DELETE FROM picket.device_thumbprint WHERE thumbprint = $1",
        &[&thumbprint.to_bytes()],
    )
    .await?;
    device.thumbprints.retain(|other| *other != thumbprint);
    touch(&transaction, &mut device, now_us).await?;
    commit(transaction, device, Some(thumbprint)).await
}

/// The device, which nobody else changes before the transaction ends. It is read by a statement of
/// its own: one that has waited for the row sees its thumbprints as they were before it waited.
async fn locked(transaction: &Transaction<'_>, id: DeviceId) -> Result<Option<Device>> {
    run(
        transaction,
        "SELECT 1 FROM picket.device WHERE id = $1 FOR UPDATE",
        &[&id.as_bytes()],
    )
    .await?;
    let row = transaction
        .query_opt(
            &format!("SELECT {COLUMNS} FROM picket.device WHERE id = $1"),
            &[&id.as_bytes()],
        )
        .await
        .map_err(backend)?;
    row.as_ref().map(read_device).transpose()
}

async fn owner_of(transaction: &Transaction<'_>, thumbprint: DeviceThumbprint) -> Result<Option<DeviceId>> {
    let row = transaction
        .query_opt(
            "SELECT device FROM picket.device_thumbprint WHERE thumbprint = $1",
            &[&thumbprint.to_bytes()],
        )
        .await
        .map_err(backend)?;
    row.as_ref().map(|row| bytes(row, 0, DeviceId::from_slice)).transpose()
}

/// How many were inserted: none, if another replica was faster.
async fn insert_thumbprint(transaction: &Transaction<'_>, id: DeviceId, thumbprint: DeviceThumbprint) -> Result<u64> {
    transaction
        .execute(
            "INSERT INTO picket.device_thumbprint (thumbprint, device) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            &[&thumbprint.to_bytes(), &id.as_bytes()],
        )
        .await
        .map_err(backend)
}

async fn touch(transaction: &Transaction<'_>, device: &mut Device, now_us: i64) -> Result<()> {
    device.changed_us = now_us;
    write_row(
        transaction,
        "UPDATE picket.device SET changed_us = $1 WHERE id = $2",
        &[&now_us, &device.id.as_bytes()],
    )
    .await
}

async fn write_row(transaction: &Transaction<'_>, sql: &str, parameters: &[Parameter<'_>]) -> Result<()> {
    write_rows(transaction, sql, parameters, 1).await
}

async fn run(transaction: &Transaction<'_>, sql: &str, parameters: &[Parameter<'_>]) -> Result<()> {
    transaction.execute(sql, parameters).await.map(drop).map_err(backend)
}

/// Tells everybody by what the device is known, or was until now, and ends the transaction.
async fn commit(transaction: Transaction<'_>, device: Device, gone: Option<DeviceThumbprint>) -> Result<DeviceUpdate> {
    let known_by = device.thumbprints.iter().copied().chain(gone);
    let payloads: Vec<String> = known_by.map(|thumbprint| format!("device {thumbprint}")).collect();
    run(
        &transaction,
        "SELECT pg_notify('picket_storage', payload) FROM unnest($1::text[]) AS payload",
        &[&payloads],
    )
    .await?;
    transaction.commit().await.map_err(backend)?;
    Ok(DeviceUpdate::Done(Box::new(device)))
}

fn read_device(row: &Row) -> Result<Device> {
    let thumbprints: Vec<Vec<u8>> = get(row, 16)?;
    let thumbprints = thumbprints.iter().map(|bytes| DeviceThumbprint::from_slice(bytes));
    let mut thumbprints = thumbprints.collect::<Option<Vec<_>>>().ok_or(MALFORMED)?;
    thumbprints.sort_unstable();
    Ok(Device {
        id: bytes(row, 0, DeviceId::from_slice)?,
        owner: bytes(row, 1, PrincipalId::from_slice)?,
        issuer: get(row, 2)?,
        subject: get(row, 3)?,
        tenant: get(row, 4)?,
        label: get(row, 5)?,
        state: DeviceState::from_name(&get::<String>(row, 6)?).ok_or(MALFORMED)?,
        enrolled_us: get(row, 7)?,
        changed_us: get(row, 8)?,
        posture: read_posture(row)?,
        thumbprints,
    })
}

fn read_posture(row: &Row) -> Result<Option<Posture>> {
    let Some(os) = get::<Option<String>>(row, 9)? else {
        return Ok(None);
    };
    Ok(Some(Posture {
        os: OsName::new(&os).ok_or(MALFORMED)?,
        os_version: OsVersion::new(&get::<String>(row, 10)?).ok_or(MALFORMED)?,
        is_disk_encrypted: get(row, 11)?,
        is_managed: get(row, 12)?,
        failures: u16::try_from(get::<i32>(row, 13)?).map_err(|_| MALFORMED)?,
        reported_us: get(row, 14)?,
        reporter: get(row, 15)?,
    }))
}

fn read_enrollment(row: &Row) -> Result<PendingEnrollment> {
    Ok(PendingEnrollment {
        challenge: bytes(row, 0, ChallengeDigest::from_slice)?,
        owner: bytes(row, 1, PrincipalId::from_slice)?,
        issuer: get(row, 2)?,
        subject: get(row, 3)?,
        tenant: get(row, 4)?,
        label: get(row, 5)?,
        ends_us: get(row, 6)?,
        caller: get(row, 7)?,
    })
}

const MALFORMED: StorageError = StorageError::Malformed("device");

fn bytes<T>(row: &Row, index: usize, read: impl FnOnce(&[u8]) -> Option<T>) -> Result<T> {
    read(&get::<Vec<u8>>(row, index)?).ok_or(MALFORMED)
}
